//! A request under way beside its reader.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// The outcome of a request that goes on while its reader does something else. Dropped, it is given up.
///
/// A task of its own: a future that is only polled when its reader comes back to it would let its time-outs pass while the
/// reader waits for Devo.
pub(super) struct Ahead<T>(JoinHandle<T>);

impl<T: Send + 'static> Ahead<T> {
    pub fn start(request: impl Future<Output = T> + Send + 'static) -> Self {
        // What it logs is about the reader's run as well.
        Self(tokio::spawn(request.in_current_span()))
    }
}

impl<T> Future for Ahead<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.0).poll(context) {
            Poll::Ready(Ok(outcome)) => Poll::Ready(outcome),
            Poll::Ready(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only dropping cancels it, and then nobody waits; or the runtime is ending, and this task with it.
                Err(_) => Poll::Pending,
            },
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
