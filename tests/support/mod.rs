//! Stand-ins that the tests of several packages share: AWS (`aws`) and the Lambda Runtime API with a function's
//! process (`runtime`). Included with `#[path]`; they listen on 127.0.0.1 alone. Mimecast and Devo are the `simulator`.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod aws;
pub mod runtime;

use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use axum::Router;
use axum::extract::DefaultBodyLimit;

/// An HTTP server on a thread and runtime of its own: a test may block, or pause its clock, and still be served.
/// Dropped, it cuts every connection and lets go of what the application holds.
pub struct Server {
    pub address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(app: Router) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let app = app.layer(DefaultBodyLimit::disable());
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = async { axum::serve(listener, app).await } => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Server { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
