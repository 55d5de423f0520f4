//! The network of one machine: carries its requests to the world's servers, or does not, and crashes the machine on the way.

use std::fmt;
use std::future::pending;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::http;
use bytes::Bytes;
use collector::source::Source;
use flate2::read::MultiGzDecoder;
use http_body::Frame;
use reqwest::{Body, Request, Response};
use simulator::mimecast::{Fault, FaultKind};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use crate::faults::{self, Breaks, Way};
use crate::ledger::{self, Lines};
use crate::trace::digest;
use crate::world::{World, lock};

/// A machine's way to everything. Clones are the same machine.
#[derive(Clone)]
pub struct Wire {
    pub world: Arc<World>,
    /// What is collected over it.
    pub source: &'static Source,
    /// The run at hand.
    pub run: Arc<Mutex<Run>>,
    pub crashed: Arc<Notify>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

/// A run as its network sees it.
#[derive(Default)]
pub struct Run {
    pub name: String,
    pub calls: u32,
    /// Requests that reached Mimecast, and those of them whose right answer came back whole.
    pub asked: u32,
    pub answered: u32,
    /// Mimecast had an answer that says that nothing is new, and it was not so.
    pub misled: bool,
    /// Mimecast said that it wants to be left alone for a while.
    pub limited: bool,
    /// A commit has moved the state on, or has recorded what was sent.
    pub moved: bool,
    /// At which call the machine crashes, and whether after the call took effect.
    pub crash: Option<(u32, bool)>,
    /// What Devo has taken, told, and no commit has recorded.
    pub uncommitted: Lines,
}

/// Ends a request with its sender.
struct Tied(AbortHandle);

impl Drop for Tied {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Wire {
    pub fn name(&self) -> String {
        lock(&self.run).name.clone()
    }

    /// The machine is gone: whoever runs it drops the run, which never gets past here.
    async fn crash(&self) {
        self.world.note(&format!("{} crashes", self.name()));
        self.crashed.notify_one();
        pending().await
    }

    /// Carries one request: `effect` is what the server makes of it, at once and whole.
    pub async fn carry<T: Send + 'static>(
        &self,
        way: Way,
        effect: impl FnOnce(&World) -> T + Send + 'static,
    ) -> io::Result<T> {
        let crash = {
            let mut run = lock(&self.run);
            run.calls += 1;
            self.world.ledger().counts.calls += 1;
            run.crash.filter(|(at, _)| *at == run.calls).map(|(_, after)| after)
        };
        if crash == Some(false) {
            self.crash().await;
        }
        match way.breaks {
            Breaks::ResetThere => {
                sleep(way.there).await;
                return Err(reset());
            }
            Breaks::SilentThere => return pending().await,
            Breaks::Nowhere | Breaks::ResetBack | Breaks::SilentBack => {}
        }
        let (tell, told) = oneshot::channel();
        let world = self.world.clone();
        let request = tokio::spawn(async move {
            sleep(way.there).await;
            // Nobody may be waiting any more.
            drop(tell.send(effect(&world)));
        });
        let _tied = way.tied.then(|| Tied(request.abort_handle()));
        let answer = told.await.map_err(|_| reset())?;
        if crash == Some(true) {
            self.crash().await;
        }
        match way.breaks {
            Breaks::SilentBack => return pending().await,
            _ => sleep(way.back).await,
        }
        if way.breaks == Breaks::ResetBack { Err(reset()) } else { Ok(answer) }
    }

    fn draw(&self) -> Way {
        let way = Way::draw(&mut self.world.rng(), &self.world.plan, self.world.is_calm());
        if way.breaks != Breaks::Nowhere {
            self.world.ledger().counts.faults += 1;
        }
        way
    }

    /// A way for another protocol.
    pub fn way(&self) -> Way {
        self.draw()
    }

    async fn ask_mimecast(self, request: http::Request<Bytes>, until: Instant) -> reqwest::Result<Response> {
        let (way, name, path) = (self.draw(), self.name(), request.uri().path().to_owned());
        let (breaks, run, source) = (way.breaks, self.run.clone(), self.source.name);
        let news = path != "/oauth/token";
        let effect = move |world: &World| {
            let asked =
                format!("{} {}", request.uri().query().unwrap_or_default(), String::from_utf8_lossy(request.body()));
            // A form holds the keys, which are no news.
            let asked = if news { asked } else { String::new() };
            let fault = faults::strike(world, &path, &asked);
            let said = fault.as_ref().map_or(String::new(), |fault| format!(" {fault:?}"));
            let struck = world.mimecast.struck();
            let spoils = fault.as_ref().is_some_and(|fault| !faults::is_right(fault));
            lock(&run).misled |= fault.as_ref().is_some_and(|fault| faults::misleads(fault, &path));
            if matches!(fault, Some(FaultKind::DeadToken)) && world.plan.upstream.tokens_mislead() {
                // The listing by date has pages as well, whose tokens may be dead: the next one is a day later.
                world.ledger().mislead(source, world.day_after(world.now()));
            }
            if let Some(fault) = fault {
                world.mimecast.fault(Fault::new("", fault));
            }
            let (response, cut) = world.mimecast.exchange(request);
            world.mimecast.clear_faults();
            let good = !(spoils && world.mimecast.struck() > struck) && response.status().is_success();
            if path.ends_with("get-hold-summary-list") {
                world.ledger().polled(world.now());
            }
            let (status, body) = (response.status().as_u16(), digest(response.body()));
            world.note(&format!("{name} mimecast {path} {asked} -> {status} {body} {cut:?}{said} {breaks:?}"));
            let mut run = lock(&run);
            run.asked += u32::from(news);
            run.limited |= status == 429;
            (response, cut, good)
        };
        match timeout_at(until, self.carry(way, effect)).await {
            Ok(Ok((response, cut, good))) => {
                if good && news {
                    self.world.answered(self.source, &mut lock(&self.run));
                }
                answer(response, cut).await
            }
            Ok(Err(error)) => Err(failure(error).await),
            Err(_) => Err(failure(io::ErrorKind::TimedOut.into()).await),
        }
    }

    async fn send_to_devo(self, request: http::Request<Bytes>, until: Instant) -> reqwest::Result<Response> {
        let (way, name) = (self.draw(), self.name());
        let breaks = way.breaks;
        let sent = Arc::new(lines(&request));
        let carried = sent.clone();
        let effect = move |world: &World| {
            let faulty = !world.is_calm() && world.rng().f64() < world.plan.devo;
            let fault = faulty.then(|| faults::devo(&mut world.rng()));
            let said = fault.as_ref().map_or(String::new(), |fault| format!(" {fault:?}"));
            world.ledger().counts.faults += u64::from(faulty);
            if let Some(fault) = fault {
                world.devo.fault(fault);
            }
            let before = world.devo.count();
            let (response, cut) = world.devo.exchange(request);
            world.devo.clear_faults();
            let taken = world.devo.count() - before;
            if taken > 0 {
                world.ledger().allow(&carried);
            }
            let what = digest(format!("{carried:?}").as_bytes());
            let status = response.status().as_u16();
            world.note(&format!(
                "{name} devo {} lines {what} -> {status}, {taken} taken{said} {breaks:?}",
                carried.len()
            ));
            (response, cut, taken)
        };
        let (response, cut, taken) = match timeout_at(until, self.carry(way, effect)).await {
            Ok(Ok((.., Some(0), _))) => return Err(failure(reset()).await),
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => return Err(failure(error).await),
            Err(_) => return Err(failure(io::ErrorKind::TimedOut.into()).await),
        };
        if taken > 0 && response.status().is_success() {
            // Now the run knows, and has to see to it that it is recorded.
            self.world.ledger().disallow(&sent);
            ledger::add(&mut lock(&self.run).uncommitted, &sent);
        }
        answer(response, cut).await
    }
}

type Sent = Pin<Box<dyn Future<Output = reqwest::Result<Response>> + Send>>;

impl mimecast::Network for Wire {
    fn execute(&self, request: Request) -> Sent {
        let until = until(&request);
        let wire = self.clone();
        Box::pin(async move { wire.ask_mimecast(plain(request)?, until).await })
    }
}

impl devo::Network for Wire {
    fn execute(&self, request: Request) -> Sent {
        let until = until(&request);
        let wire = self.clone();
        Box::pin(async move { wire.send_to_devo(plain(request)?, until).await })
    }
}

fn until(request: &Request) -> Instant {
    Instant::now() + request.timeout().copied().unwrap_or(Duration::from_secs(3600))
}

fn plain(request: Request) -> reqwest::Result<http::Request<Bytes>> {
    let request = http::Request::<Body>::try_from(request)?;
    Ok(request.map(|body| body.as_bytes().map(Bytes::copy_from_slice).unwrap_or_default()))
}

/// The lines of a request to Devo.
fn lines(request: &http::Request<Bytes>) -> Lines {
    let table = request.uri().path().rsplit('/').next().unwrap_or_default();
    let mut text = String::new();
    MultiGzDecoder::new(&request.body()[..]).read_to_string(&mut text).ok();
    let mut lines = Lines::new();
    for line in text.lines() {
        *lines.entry((table.to_owned(), line.to_owned())).or_default() += 1;
    }
    lines
}

/// The answer with its body, of which no more than `cut` bytes come.
async fn answer(response: http::Response<Bytes>, cut: Option<usize>) -> reqwest::Result<Response> {
    if cut == Some(0) {
        return Err(failure(reset()).await);
    }
    let arriving = |whole: Bytes| {
        let arrives = cut.unwrap_or(whole.len()).min(whole.len());
        let broken = (arrives < whole.len()).then(reset);
        Body::wrap(Arriving { bytes: Some(whole.slice(..arrives)), broken })
    };
    Ok(response.map(arriving).into())
}

/// A body on its way, which may break off.
struct Arriving {
    bytes: Option<Bytes>,
    broken: Option<io::Error>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = self.bytes.take().map(|bytes| Ok(Frame::data(bytes)));
        Poll::Ready(next.or_else(|| self.broken.take().map(Err)))
    }
}

/// A failure as reqwest reports it. Only reqwest can make one, so it is made to fail.
async fn failure(error: io::Error) -> reqwest::Error {
    let body = Body::wrap(Arriving { bytes: None, broken: Some(error) });
    match Response::from(http::Response::new(body)).bytes().await {
        Err(error) => error,
        Ok(_) => unreachable!("a body that breaks off is no answer"),
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}
