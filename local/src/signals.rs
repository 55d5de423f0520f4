//! The signals that ask the program to stop, Ctrl-C and, where there is one, SIGTERM, and SIGHUP.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC, ctrl_c};

/// Catches the signals from its making on, for as long as the process lives.
pub struct Signals {
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    hangup: Signal,
    #[cfg(windows)]
    interrupt: CtrlC,
}

impl Signals {
    #[cfg(unix)]
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    #[cfg(windows)]
    pub fn catch() -> io::Result<Self> {
        Ok(Self { interrupt: ctrl_c()? })
    }

    /// Waits for the next one.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Waits for the next one.
    #[cfg(windows)]
    pub async fn next(&mut self) {
        self.interrupt.recv().await;
    }

    /// Waits until the process is asked to stop, or by SIGHUP to read its configuration again.
    #[cfg(unix)]
    pub async fn asked(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Waits until the process is asked to stop.
    #[cfg(windows)]
    pub async fn asked(&mut self) -> Asked {
        self.interrupt.recv().await;
        Asked::Stop
    }

    /// Waits for the next SIGTERM; an interrupt is caught and left.
    #[cfg(unix)]
    pub async fn terminate(&mut self) {
        self.terminate.recv().await;
    }

    /// Never: there is no SIGTERM.
    #[cfg(windows)]
    pub async fn terminate(&mut self) {
        std::future::pending().await
    }
}

/// What a signal asks for.
pub enum Asked {
    Stop,
    Reload,
}

/// Tells systemd how far the service is, where systemd has started it and wants to know (`Type=notify`).
#[cfg(unix)]
pub fn tell(state: Told) {
    use sd_notify::NotifyState;
    let said = match state {
        Told::Ready => NotifyState::Ready,
        Told::Reloading => NotifyState::Reloading,
        Told::Stopping => NotifyState::Stopping,
    };
    let time = NotifyState::monotonic_usec_now().ok().filter(|_| matches!(state, Told::Reloading));
    // An error says that nobody wants to know.
    sd_notify::notify(&std::iter::once(said).chain(time).collect::<Vec<_>>()).ok();
}

/// There is no systemd.
#[cfg(windows)]
pub fn tell(_: Told) {}

/// How far a service is.
pub enum Told {
    Ready,
    Reloading,
    Stopping,
}
