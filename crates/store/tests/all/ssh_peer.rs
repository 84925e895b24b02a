//! A small SSH server in this process: it checks passwords, and refuses whatever is asked of it then.

use std::{borrow::Cow, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use russh::{
    Channel, ChannelId, MethodKind, MethodSet, keys,
    server::{self, Auth, ChannelOpenHandle, Msg, Response, Session},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub struct SshPeer {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl SshPeer {
    /// Takes this password, by this one of the two ways there are, and has the host key of a file.
    pub async fn start(password: &'static str, way: MethodKind, host_key: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let config = Arc::new(server::Config {
            keys: vec![keys::load_secret_key(host_key, None).expect("a host key")],
            methods: MethodSet::from(&[way][..]),
            auth_rejection_time: Duration::from_millis(10),
            auth_rejection_time_initial: Some(Duration::ZERO),
            ..server::Config::default()
        });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let config = config.clone();
                tokio::spawn(async move {
                    if let Ok(running) = server::run_stream(config, stream, Peer { password, way }).await {
                        let _ = running.await;
                    }
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for SshPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Peer {
    password: &'static str,
    way: MethodKind,
}

impl Peer {
    fn judge(&self, way: MethodKind, password: &[u8]) -> Auth {
        if way == self.way && password == self.password.as_bytes() { Auth::Accept } else { Auth::reject() }
    }
}

impl server::Handler for Peer {
    type Error = russh::Error;

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(self.judge(MethodKind::Password, password.as_bytes()))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let Some(mut response) = response else {
            let prompts = Cow::Owned(vec![(Cow::Borrowed("Password: "), false)]);
            return Ok(Auth::Partial { name: "".into(), instructions: "".into(), prompts });
        };
        let answer = response.next().unwrap_or_default();
        Ok(self.judge(MethodKind::KeyboardInteractive, &answer))
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }
}
