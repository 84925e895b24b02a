//! A mail by SMTP. Each try of one message has the same Message-ID, so that mail boxes know a second copy.

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor,
    message::{Attachment, MultiPart, SinglePart, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};

use super::{SendError, Taken, secret};
use crate::{
    http::Http,
    message::Message,
    settings::{EmailSettings, MailTls},
    text::last_lines,
};

/// So many lines of the log stand in the text; all of it is attached.
const LINES: usize = 30;

pub async fn send(http: &Http, settings: &EmailSettings, message: &Message) -> Taken {
    let mail = written(settings, message)?;
    let transport = transport(settings, http)?;
    match tokio::time::timeout(http.total(), transport.send(mail)).await {
        Err(_) => Err(SendError::later(format!("no answer within {} s", http.total().as_secs_f32()))),
        Ok(Ok(response)) => Ok((response.message().collect::<Vec<_>>().join(" "), None)),
        Ok(Err(error)) => {
            let mut why = error.to_string();
            if let Some(source) = std::error::Error::source(&error)
                && !why.contains(&source.to_string())
            {
                why = format!("{why}: {source}");
            }
            Err(if error.is_permanent() { SendError::never(why) } else { SendError::later(why) })
        }
    }
}

fn written(settings: &EmailSettings, message: &Message) -> Result<Mail, SendError> {
    let address =
        |text: &String| text.parse().map_err(|error| SendError::never(format!("{text:?} is no mail address: {error}")));
    let mut mail = Mail::builder()
        .from(address(&settings.from)?)
        .subject(format!("[haven] {}", message.head()))
        .message_id(Some(format!(
            "<{}@haven.{}>",
            message.id,
            message.host.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
        )))
        .date_now();
    if settings.to.is_empty() {
        return Err(SendError::never("there is nobody in `to`"));
    }
    for to in &settings.to {
        mail = mail.to(address(to)?);
    }
    let log = message.log.trim_end();
    let mut text = message.plain();
    if !log.is_empty() {
        text += &format!("\n\n{}\n", last_lines(log, LINES));
    }
    let text = SinglePart::plain(text);
    let attached = || Attachment::new("log.txt".into()).body(log.to_owned(), ContentType::TEXT_PLAIN);
    let made = match (log.is_empty(), message.html.is_empty()) {
        (true, true) => mail.singlepart(text),
        (false, true) => mail.multipart(MultiPart::mixed().singlepart(text).singlepart(attached())),
        (_, false) => {
            let both = MultiPart::alternative().singlepart(text).singlepart(SinglePart::html(message.html.clone()));
            mail.multipart(if log.is_empty() {
                both
            } else {
                MultiPart::mixed().multipart(both).singlepart(attached())
            })
        }
    };
    made.map_err(|error| SendError::never(format!("no mail can be made: {error}")))
}

fn transport(settings: &EmailSettings, http: &Http) -> Result<AsyncSmtpTransport<Tokio1Executor>, SendError> {
    let server = settings.server.as_str();
    let tls = || {
        let mut tls = TlsParameters::builder(server.to_owned());
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path)
                .map_err(|error| SendError::never(format!("{} can't be read: {error}", path.display())))?;
            let certificate = Certificate::from_pem(&pem)
                .map_err(|_| SendError::never(format!("{} is no certificate (PEM)", path.display())))?;
            tls = tls.add_root_certificate(certificate);
        }
        tls.build().map_err(|error| SendError::never(format!("TLS can't be set up: {error}")))
    };
    let (tls, port) = match settings.tls {
        MailTls::Implicit => (Tls::Wrapper(tls()?), 465),
        MailTls::Starttls => (Tls::Required(tls()?), 587),
        MailTls::None if matches!(server, "localhost" | "127.0.0.1" | "::1") => (Tls::None, 25),
        MailTls::None => return Err(SendError::never("without TLS mail goes to this very machine only")),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
        .tls(tls)
        .port(settings.port.unwrap_or(port))
        .timeout(Some(http.total()));
    if let Some(user) = &settings.user {
        let password = secret("password", &settings.password)?;
        builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
    }
    Ok(builder.build())
}
