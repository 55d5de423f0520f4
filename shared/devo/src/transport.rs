//! Connections for the syslog ways: TCP, and mutual TLS with the Devo secret. What travels on them is for others to say.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reqwest::Url;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    task::yield_now,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::{client::TlsStream, rustls};

use crate::{Credentials, Error, tls::Tls};

/// The longest time a connection may take, TLS handshake included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an address is tried before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);
/// How long TCP's end is waited for after TLS' end.
const LINGER: Duration = Duration::from_millis(100);
const MAX_SHOWN: usize = 60;

/// Where connections go: host, port, and whether by TLS.
#[derive(Debug)]
pub(crate) struct Target {
    host: String,
    port: u16,
    tls: Option<Tls>,
    /// `scheme://host:port`, for messages.
    shown: String,
}

impl Target {
    /// `scheme://host:port`; by TLS, with the secret's `chain`, `cert` and `key`, where the scheme ends in `tls`.
    ///
    /// # Errors
    /// [`Error::Configuration`] for another form of URL and for a secret without the keys or with texts that do not go together.
    pub fn parse(url: &Url, credentials: Option<&Credentials>) -> Result<Self, Error> {
        let scheme = url.scheme();
        let bare = url.username().is_empty()
            && url.password().is_none()
            && ["", "/"].contains(&url.path())
            && url.query().is_none()
            && url.fragment().is_none();
        let (Some(host), Some(port), true) = (url.host_str(), url.port(), bare) else {
            return Err(Error::Configuration(format!(
                "devo url: write it like {scheme}://<host>:<port>, nothing else"
            )));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = if scheme.ends_with("tls") { Some(Tls::new(&host, credentials)?) } else { None };
        Ok(Self { shown: format!("{scheme}://{}:{port}", url.host_str().unwrap_or_default()), host, port, tls })
    }

    /// A new connection, at the latest at `until`.
    ///
    /// # Errors
    /// [`Error::Rejected`] for a certificate that one side does not take, [`Error::Configuration`] where the other side speaks no TLS,
    /// else [`Error::Unavailable`].
    pub async fn connect(&self, until: Instant) -> Result<Stream, Error> {
        if let Some(tls) = &self.tls {
            tls.check().map_err(Error::Rejected)?;
        }
        let until = until.min(Instant::now() + CONNECT);
        let late = |text| move |_| self.unavailable(text);
        let socket = timeout_at(until, self.socket()).await.map_err(late("cannot be reached: no answer in time"))??;
        let Some(tls) = &self.tls else { return Ok(Stream::Plain(socket)) };
        let handshake = timeout_at(until, tls.connect(socket)).await;
        let handshake = handshake.map_err(late("no answer to the TLS handshake in time: does this port speak TLS?"))?;
        handshake.map(|stream| Stream::Tls(Box::new(stream))).map_err(|error| match tls_error(&error) {
            Some(rustls::Error::InvalidMessage(_)) => {
                Error::Configuration(format!("{}: does not answer with TLS: check scheme and port", self.shown))
            }
            None => self.unavailable(&format!("closed during the TLS handshake: does this port speak TLS? ({error})")),
            Some(_) => self.failure(&error),
        })
    }

    /// Our own certificate, where there is one: that it holds for a while, or what its owner should know.
    pub fn certificate(&self) -> Option<Result<String, String>> {
        let tls = self.tls.as_ref()?;
        Some(match (tls.check(), tls.warning()) {
            (Err(text), _) | (Ok(()), Some(text)) => Err(text),
            (Ok(()), None) => {
                Ok("devo secret: cert is from the CA in chain and holds for two weeks at least".to_owned())
            }
        })
    }

    async fn socket(&self) -> Result<TcpStream, Error> {
        let addresses = lookup_host((self.host.as_str(), self.port)).await;
        let addresses: Vec<_> =
            addresses.map_err(|error| self.unavailable(&format!("host name not found: check it ({error})")))?.collect();
        let socket = first_of(&addresses).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => self.unavailable("connection refused: check host and port"),
            _ => self.unavailable(&format!("cannot be reached: {error}")),
        })?;
        socket.set_nodelay(true).map_err(|error| self.failure(&error))?;
        Ok(socket)
    }

    /// What an error while reading or writing means.
    pub fn failure(&self, error: &io::Error) -> Error {
        match tls_error(error).and_then(crate::tls::refusal) {
            Some(text) => Error::Rejected(format!("{}: {text}", self.shown)),
            None if error.kind() == io::ErrorKind::InvalidData && tls_error(error).is_none() => {
                Error::Configuration(format!("{}: {error}", self.shown))
            }
            None => self.unavailable(&error.to_string()),
        }
    }

    /// [`Error::Unavailable`] that names this target.
    pub fn unavailable(&self, text: &str) -> Error {
        Error::Unavailable(self.about(text))
    }

    /// A text that names this target.
    pub fn about(&self, text: &str) -> String {
        format!("{}: {text}", self.shown)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The first connection that comes about. Each address is tried soon after the one before it, as one may be a black hole and others
/// not (RFC 8305).
async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let later = |number: usize| HEAD_START * u32::try_from(number).unwrap_or(u32::MAX);
    let tries = addresses.iter().enumerate().map(|(number, address)| async move {
        sleep(later(number)).await;
        TcpStream::connect(address).await
    });
    let mut tries: FuturesUnordered<_> = tries.collect();
    let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    while let Some(connection) = tries.next().await {
        outcome = connection;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A connection. Shutting it down ends this side only (close notify and TCP half-close); it can still be read.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Looks, without waiting, whether the other side has said or ended anything where it should be silent.
    ///
    /// # Errors
    /// The end (`UnexpectedEof`), what it said (`InvalidData`), or any error of the connection, TLS alerts included.
    pub async fn silent(&mut self) -> io::Result<()> {
        // The runtime learns of what has come only between two steps of a task.
        yield_now().await;
        std::future::poll_fn(|cx| {
            let mut space = [0; MAX_SHOWN];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut *self).poll_read(cx, &mut buffer) {
                Poll::Pending => Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => Poll::Ready(Err(spoken(buffer.filled()))),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Waits for the other side's end and reads all before it: unread bytes would turn our close into a reset, which drops what is
    /// on its way.
    ///
    /// An end of TCP without TLS' close notify counts: many receivers send none. So does a close notify that the end of TCP does
    /// not follow.
    ///
    /// # Errors
    /// As [`Stream::silent`], the end excepted.
    pub async fn end(&mut self) -> io::Result<()> {
        to_end(self).await?;
        if let Self::Tls(stream) = self {
            // Only TCP's own end tells that all is acknowledged, and most often it comes with TLS' end.
            let end = timeout(LINGER, to_end(stream.get_mut().0));
            end.await.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// How many bytes the other side's kernel has not acknowledged, our end counting as one; `None` once the connection is over in order.
    ///
    /// From `/proc/net/tcp`: the same number as the ioctl SIOCOUTQ, for which there is no safe function. Reading that table takes
    /// milliseconds, so the socket is asked first: the kernel no longer knows the other side's address once both sides have ended
    /// and all is acknowledged, or after a reset.
    ///
    /// # Errors
    /// The connection's own (reset), or that of reading `/proc` (not Linux).
    pub fn unacknowledged(&self) -> io::Result<Option<u64>> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        };
        let over = socket.peer_addr().is_err_and(|error| error.kind() == io::ErrorKind::NotConnected);
        let queue = if over { None } else { send_queue(socket)? };
        // Asked for last: a connection that is over may have ended by a reset.
        socket.take_error()?.map_or(Ok(queue), Err)
    }
}

/// Reads until the other side's end, before which it should say nothing.
async fn to_end(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut space = [0; MAX_SHOWN];
    match stream.read(&mut space).await {
        Ok(0) => Ok(()),
        Ok(count) => Err(spoken(&space[..count])),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the other side said, as an error; the end where that is nothing.
fn spoken(bytes: &[u8]) -> io::Error {
    if bytes.is_empty() {
        return io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the receiver before the end");
    }
    let shown = bytes.escape_ascii();
    let text =
        format!("not a syslog receiver, as those say nothing and this one says \"{shown}\": check scheme and port");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(unix)]
fn send_queue(socket: &TcpStream) -> io::Result<Option<u64>> {
    use std::os::fd::AsRawFd as _;

    // `socket:[<inode>]`
    let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd()))?;
    let link = link.to_string_lossy();
    let inode = link.trim_start_matches("socket:[").trim_end_matches(']');
    let table = if socket.local_addr()?.is_ipv4() { "tcp" } else { "tcp6" };
    let table = fs::read_to_string(format!("/proc/self/net/{table}"))?;
    // Number, local and remote address, state, `tx_queue:rx_queue` in hexadecimal, timer, retransmits, user, time-out, inode.
    let column = format!(" {inode} ");
    let mut rows = table.lines().filter(|row| row.contains(&column)).map(|row| row.split_whitespace());
    let row = rows.find(|row| row.clone().nth(9) == Some(inode));
    let queue = row.and_then(|mut row| row.nth(4)?.split(':').next());
    queue.map(|text| u64::from_str_radix(text, 16)).transpose().map_err(io::Error::other)
}

#[cfg(not(unix))]
fn send_queue(_: &TcpStream) -> io::Result<Option<u64>> {
    Err(io::ErrorKind::Unsupported.into())
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn a_black_hole_does_not_hide_the_next_address() {
        // A listener whose queue is full answers nothing.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let black_hole = socket.listen(1).unwrap();
        let address = black_hole.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(Ok(waiting)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queue.push(waiting);
        }
        let good = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let nobody = TcpListener::bind("127.0.0.3:0").await.unwrap().local_addr().unwrap();
        let began = Instant::now();
        let stream = first_of(&[address, nobody, good.local_addr().unwrap()]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good.local_addr().unwrap());
        assert!(began.elapsed() < CONNECT / 2);
        assert_eq!(first_of(&[nobody]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
