//! Connections that can be cut after a number of bytes, or reset, and bodies that come slowly: what no HTTP answer can say.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Interval, interval};

/// A handler's hold on its connection.
#[derive(Clone)]
pub(super) struct Switch {
    /// How many bytes may still be written; `usize::MAX` for any number.
    left: Arc<AtomicUsize>,
    /// Whether the end is a reset even where something has been written before it.
    reset: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Switch {
    /// Closes the connection after `bytes` more bytes, with a reset if `reset`; at once, with a reset, if `bytes` is 0.
    pub fn cut(&self, bytes: usize, reset: bool) {
        self.reset.store(reset, Ordering::Relaxed);
        self.left.store(bytes, Ordering::Relaxed);
    }
}

pub(super) struct Listening {
    pub listener: TcpListener,
    pub stopped: Arc<AtomicBool>,
}

pub(super) struct Connection {
    stream: TcpStream,
    switch: Switch,
    cutting: bool,
}

impl Listener for Listening {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        stream.set_nodelay(true).ok();
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let switch = Switch { left, reset: Arc::default(), stopped: self.stopped.clone() };
        (Connection { stream, switch, cutting: false }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Listening>> for Switch {
    fn connect_info(stream: IncomingStream<'_, Listening>) -> Self {
        stream.io().switch.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.switch.stopped.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut this.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let left = this.switch.left.load(Ordering::Relaxed);
        if left == 0 || this.switch.stopped.load(Ordering::Relaxed) {
            if !this.cutting || this.switch.reset.load(Ordering::Relaxed) {
                this.stream.set_zero_linger().ok();
            }
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, &bytes[..bytes.len().min(left)]);
        if left != usize::MAX
            && let Poll::Ready(Ok(count)) = written
        {
            this.cutting = true;
            this.switch.left.store(left - count, Ordering::Relaxed);
        }
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = buffers.iter().find(|buffer| !buffer.is_empty()).map_or(&[][..], |buffer| buffer);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// How many pieces a slow body comes in.
const PIECES: u32 = 8;

/// A body in pieces, one after the other at equal intervals.
pub(super) struct SlowBody {
    left: Bytes,
    piece: usize,
    pace: Interval,
}

impl SlowBody {
    /// All of `body` takes `time`.
    pub fn new(body: Bytes, time: Duration) -> Self {
        let piece = body.len().div_ceil(PIECES as usize).max(1);
        Self { left: body, piece, pace: interval((time / PIECES).max(Duration::from_millis(1))) }
    }
}

impl Body for SlowBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left.is_empty() {
            return Poll::Ready(None);
        }
        ready!(this.pace.poll_tick(cx));
        let piece = this.left.split_to(this.piece.min(this.left.len()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}
