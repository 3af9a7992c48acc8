//! Mail that the server sends, received by a real SMTP server inside the test.
//!
//! [`MailSink`] handles the sockets, and the crate `mailin` the protocol.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mailin::response::OK;
use mailin::{Action, Handler, Response, SessionBuilder};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, timeout};

/// A received mail.
#[derive(Debug, Default)]
pub struct ReceivedMail {
    /// The name in the sender's `HELO`.
    pub hello: String,
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Headers and body.
    pub data: Vec<u8>,
}

/// A mail server on a free port that keeps the mails it receives. It rejects recipients at
/// `refused.test`, and those at `limited.test` while the limit is reached. For recipients at
/// `held.test` it waits until the test decides whether to accept them.
pub struct MailSink {
    /// The value for `SMTP_URL`.
    pub url: String,
    mails: mpsc::UnboundedReceiver<ReceivedMail>,
    pending: mpsc::UnboundedReceiver<oneshot::Sender<bool>>,
    /// Whether the limit of `limited.test` is reached; initially true.
    pub is_limited: Arc<AtomicBool>,
}

impl MailSink {
    /// Starts a sink on a free port; it ends with the test's runtime.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("smtp://{}", listener.local_addr()?);
        let (sender, mails) = mpsc::unbounded_channel();
        let (pending_sender, pending) = mpsc::unbounded_channel();
        let is_limited = Arc::new(AtomicBool::new(true));
        let limited = Arc::clone(&is_limited);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let inbox = Inbox {
                    mail: ReceivedMail::default(),
                    done: Arc::new(sender.clone()),
                    is_limited: Arc::clone(&limited),
                };
                tokio::spawn(serve_connection(socket, inbox, pending_sender.clone()));
            }
        });
        Ok(Self { url, mails, pending, is_limited })
    }

    /// Waits for the next recipient at `held.test`: sending `true` accepts it, `false` rejects it.
    pub async fn next_pending(&mut self) -> oneshot::Sender<bool> {
        let next = timeout(Duration::from_secs(10), self.pending.recv()).await;
        next.expect("a mail within ten seconds").expect("the sink lives")
    }

    /// Waits for the next mail, at most ten seconds.
    pub async fn next(&mut self) -> ReceivedMail {
        let next = timeout(Duration::from_secs(10), self.mails.recv()).await;
        next.expect("a mail within ten seconds").expect("the sink lives")
    }

    /// Whether no unread mail has arrived.
    pub fn is_empty(&self) -> bool {
        self.mails.is_empty()
    }
}

async fn serve_connection(
    socket: TcpStream,
    inbox: Inbox,
    pending: mpsc::UnboundedSender<oneshot::Sender<bool>>,
) -> io::Result<()> {
    let mut session = SessionBuilder::new("sink.test").build(IpAddr::from([127, 0, 0, 1]), inbox);
    let mut socket = BufReader::new(socket);
    socket.write_all(&session.greeting().buffer()?).await?;
    let mut line = Vec::new();
    while socket.read_until(b'\n', &mut line).await? > 0 {
        let is_pending =
            line.starts_with(b"RCPT") && line.windows(10).any(|it| it == b"@held.test");
        if is_pending {
            let (decide, decision) = oneshot::channel();
            let _ = pending.send(decide);
            if !decision.await.unwrap_or_default() {
                socket.write_all(b"550 refused after all\r\n").await?;
                line.clear();
                continue;
            }
        }
        let response = session.process(&line);
        line.clear();
        if !matches!(response.action, Action::NoReply) {
            socket.write_all(&response.buffer()?).await?;
        }
        if matches!(response.action, Action::Close) {
            break;
        }
    }
    Ok(())
}

struct Inbox {
    mail: ReceivedMail,
    done: Arc<mpsc::UnboundedSender<ReceivedMail>>,
    is_limited: Arc<AtomicBool>,
}

impl Handler for Inbox {
    fn helo(&mut self, _ip: IpAddr, domain: &str) -> Response {
        domain.clone_into(&mut self.mail.hello);
        OK
    }

    fn mail(&mut self, _ip: IpAddr, _domain: &str, from: &str) -> Response {
        from.clone_into(&mut self.mail.from);
        OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        if to.ends_with("@refused.test") {
            return Response::custom(550, "5.1.1 Mailbox unavailable".to_owned());
        }
        if to.ends_with("@limited.test") && self.is_limited.load(Ordering::Relaxed) {
            return Response::custom(550, "5.4.5 Daily sending limit exceeded".to_owned());
        }
        self.mail.to.push(to.to_owned());
        OK
    }

    fn data(&mut self, line: &[u8]) -> io::Result<()> {
        self.mail.data.extend_from_slice(line);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        let hello = self.mail.hello.clone();
        let mail =
            std::mem::replace(&mut self.mail, ReceivedMail { hello, ..ReceivedMail::default() });
        let _ = self.done.send(mail);
        OK
    }
}
