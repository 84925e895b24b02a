use haven_notify::{Channel, Message, Ping, Severity};
use serde_json::json;

use crate::{
    cli::Context,
    keeper::{self, millis, switches},
    report::{Code, Trouble, UNTOUCHED},
    wire, words,
};

/// Send a test message to everybody who is told, and say what each answered
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 every one took it; 4 one did not")]
pub struct Args {
    /// Only these [default: all]
    names: Vec<String>,
}

pub fn run(context: &Context, args: &Args) -> Result<(), Trouble> {
    let config = &context.config;
    let known: Vec<String> = config.channels.keys().cloned().collect();
    for name in &args.names {
        if !known.contains(name) {
            let trouble =
                Trouble::new(Code::Usage, format!("haven.toml has no table [alert.{name}]")).meaning(UNTOUCHED);
            return Err(match crate::config::nearest(name, &known) {
                Some(near) => trouble.next(format!("is it {near}?")),
                None => trouble.next("`haven config` shows what such a table may have"),
            });
        }
    }
    if known.is_empty() {
        return Err(Trouble::new(Code::Usage, "haven.toml names nobody to tell")
            .meaning("nobody hears of it when something is wrong with the photos")
            .next("set a table [alert.NAME]; `haven config` shows what it may have")
            .next("haven setup    asks for it"));
    }
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|one| one == name);
    let channels: Vec<Channel> = config.channels().into_iter().filter(|channel| wanted(&channel.name)).collect();
    let message = Message {
        id: format!("test-{}", millis()),
        severity: Severity::Info,
        title: "This is a test: Haven can reach you".into(),
        body: format!("Sent by `haven alert test` at {}. Nothing is wrong.", words::moment(words::now())),
        log: "This is where the end of a log stands: a_b *c `d [x](y) <&> größe 📷".into(),
        host: wire::host(),
        html: String::new(),
        weight: None,
    };
    let (values, text, failed) = wire::runtime()?.block_on(async {
        let http = keeper::http()?;
        let (mut values, mut text, mut failed) = (Vec::new(), String::new(), Vec::new());
        for channel in &channels {
            let answered = if channel.tells_people() {
                channel.send(&http, &message).await.map(|receipt| {
                    let number =
                        if receipt.number.is_empty() { String::new() } else { format!(", number {}", receipt.number) };
                    let remark = receipt.remark.map(|remark| format!("; {remark}")).unwrap_or_default();
                    format!("took it{number}{remark}")
                })
            } else {
                let all = switches(&config.channels, &http);
                let switch = all.into_iter().find(|(name, _)| *name == channel.name);
                let heard = match switch {
                    Some((_, switch)) => switch.once("alive", Ping::Success, None, &message.plain()).await,
                    None => Ok(()),
                };
                heard.map(|()| "heard that this machine is alive".to_owned())
            };
            let (ok, said) = match answered {
                Ok(said) => (true, said),
                Err(error) => (false, error.to_string()),
            };
            text += &format!("{:<12} {}{said}\n", channel.name, if ok { "" } else { "DID NOT TAKE IT: " });
            values.push(json!({ "channel": channel.name, "ok": ok, "said": said }));
            if !ok {
                failed.push(channel.name.clone());
            }
        }
        Ok::<_, Trouble>((values, text, failed))
    })?;
    context.answer(&json!({ "channels": values }), &text)?;
    if failed.is_empty() {
        return Ok(());
    }
    Err(Trouble::new(Code::Untold, format!("{} did not take the message", failed.join(", ")))
        .meaning("who is told by that alone hears of nothing")
        .next("correct what it says above in haven.toml, [alert]"))
}
