//! One RELP session: opens it, then hands lines over with up to a window of them unanswered.

use std::{collections::HashMap, io, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    select,
    time::{Instant, sleep_until, timeout},
};

use super::frame::{Frame, parse, put};

/// The most commands without an answer: librelp's own (`RELP_DFLT_WINDOW_SIZE` in its relp.h).
const WINDOW: usize = 128;
/// From how many bytes on no further frame joins those to be written.
const BURST: usize = 256_000;
/// How much is read at once, in bytes.
const READ: usize = 16_000;
/// How long the server may leave commands without any answer.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a session may take to close.
const CLOSE: Duration = Duration::from_secs(2);
/// After this number comes 1.
const LAST_NUMBER: u32 = 999_999_999;
/// How much of an answer is shown: a code and the 80 characters that a text may have.
const MAX_SHOWN: usize = 84;

const OFFERS: &str =
    concat!("relp_version=0\nrelp_software=mimecast-devo,", env!("CARGO_PKG_VERSION"), "\ncommands=syslog");

/// A line to be handed over.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub batch: usize,
    pub index: usize,
    pub head: &'a str,
    pub event: &'a Bytes,
    pub state: State,
    /// What the server said when it refused it for the second time.
    pub refusal: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// Answered with another code than 200 once: open for one more try.
    Refused,
    /// Answered so on a new session too.
    RefusedTwice,
    Accepted,
    /// It cannot be sent.
    TooLarge,
}

impl State {
    /// Whether it is still to be sent.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Refused)
    }
}

/// Why a session is over.
#[derive(Debug)]
pub(super) enum End {
    /// The connection, a malformed answer, the server's close or its silence.
    Lost(io::Error),
    /// It refused some lines for the first time; all others that were sent have their last answer.
    Refused(String),
    /// It refused the session itself.
    Rejected(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// An open session.
#[derive(Debug)]
pub(super) struct Session<S> {
    read: ReadHalf<S>,
    write: WriteHalf<S>,
    input: BytesMut,
    output: BytesMut,
    /// Whether something was written that may still be in a buffer of the stream.
    unflushed: bool,
    /// Whether writing has failed.
    broken: bool,
    /// How many commands may be without an answer: grows from 1 with every answer, as TCP's does in its slow start. A server that
    /// resets again and again so always answers something first, and what is sent again is no more than what it has answered.
    window: usize,
    /// The last command's number.
    last: u32,
    /// The commands without an answer by number, and the entries that they carry.
    unanswered: HashMap<u32, usize>,
    /// When the server last said something.
    heard: Instant,
}

impl<S: AsyncRead + AsyncWrite> Session<S> {
    /// Opens a session on a new connection.
    pub async fn open(stream: S, until: Instant) -> Result<Self, End> {
        let (read, write) = split(stream);
        let mut session = Self {
            read,
            write,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            broken: false,
            window: 1,
            last: 0,
            unanswered: HashMap::new(),
            heard: Instant::now(),
        };
        session.command("open", &[OFFERS.as_bytes()], 0);
        let answer = loop {
            session.turn(until).await?;
            let answer = session.answer().map_err(|error| match error.kind() {
                io::ErrorKind::Other => {
                    let text = format!("not a RELP server ({error}): check scheme and port");
                    io::Error::new(io::ErrorKind::InvalidData, text)
                }
                _ => error,
            });
            if let Some(answer) = answer? {
                break answer;
            }
        };
        if answer.is_ok() && answer.offers("relp_version", "0") && answer.offers("commands", "syslog") {
            Ok(session)
        } else {
            Err(End::Rejected(format!("opens no RELP session for syslog: {answer}")))
        }
    }

    /// How many commands have no answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Closes the session in order, without which servers log an error. Nothing may be unanswered.
    pub async fn close(mut self) {
        self.command("close", &[], 0);
        let close = async {
            self.write.write_all(&self.output).await?;
            self.write.flush().await?;
            // Whether the answer or an end, it is over.
            self.read.read_buf(&mut self.input).await?;
            self.write.shutdown().await
        };
        if !matches!(timeout(CLOSE, close).await, Ok(Ok(()))) {
            tracing::debug!("devo: RELP session not closed in order");
        }
    }

    /// Hands over the open entries in order, and keeps what the server says of each.
    ///
    /// After an error the session is of no use.
    pub async fn deliver(&mut self, entries: &mut [Entry<'_>], until: Instant) -> Result<(), End> {
        self.heard = Instant::now();
        let mut next = 0;
        let mut end = None;
        loop {
            // As soon as there is room: our frames carry TCP's acknowledgement, without which a server like librelp, whose socket
            // joins small writes (no TCP_NODELAY), keeps its next answers back for 40 ms.
            if end.is_none() && !self.broken && self.output.is_empty() {
                while next < entries.len() && self.unanswered.len() < self.window && self.output.len() < BURST {
                    let Entry { head, event, state, .. } = &entries[next];
                    if state.is_open() {
                        self.command("syslog", &[head.as_bytes(), event], next);
                    }
                    next += 1;
                }
            }
            if self.unanswered.is_empty() && self.output.is_empty() {
                let end = end.or_else(|| self.broken.then(|| over("writing has failed").into()));
                return end.map_or(Ok(()), Err);
            }
            self.turn(until).await?;
            while let Some(answer) = self.answer()? {
                self.window = WINDOW.min(self.window + 1);
                let entry = &mut entries[answer.index];
                if answer.is_ok() {
                    entry.state = State::Accepted;
                } else if entry.state == State::Open {
                    entry.state = State::Refused;
                    end.get_or_insert_with(|| End::Refused(answer.to_string()));
                } else {
                    (entry.state, entry.refusal) = (State::RefusedTwice, answer.to_string());
                }
            }
        }
    }

    /// Puts a command behind what is to be written.
    fn command(&mut self, command: &str, data: &[&[u8]], index: usize) {
        self.last = if self.last == LAST_NUMBER { 1 } else { self.last + 1 };
        put(&mut self.output, self.last, command, data);
        self.unflushed = true;
        self.unanswered.insert(self.last, index);
    }

    /// Writes and reads at once, and returns when either has got on.
    async fn turn(&mut self, until: Instant) -> io::Result<()> {
        let write = async {
            if self.output.is_empty() {
                return self.write.flush().await.map(|()| true);
            }
            match self.write.write_buf(&mut self.output).await? {
                0 => Err(io::ErrorKind::WriteZero.into()),
                _ => Ok(false),
            }
        };
        self.input.reserve(READ);
        select! {
            written = write, if self.unflushed => match written {
                Ok(flushed) => self.unflushed = !flushed,
                Err(error) => {
                    // Answers that came before a reset can still be read; reading ends after them.
                    tracing::debug!(%error, "devo: RELP session broken");
                    self.output.clear();
                    self.unflushed = false;
                    self.broken = true;
                }
            },
            read = self.read.read_buf(&mut self.input) => {
                if read? == 0 {
                    return Err(over("closed by the server"));
                }
                self.heard = Instant::now();
            }
            () = sleep_until(until.min(self.heard + SILENCE)) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
            }
        }
        Ok(())
    }

    /// Takes the next answer out of what has been read.
    fn answer(&mut self) -> io::Result<Option<Answer>> {
        while let Some((Frame { number, command, data }, length)) = parse(&self.input).map_err(malformed)? {
            let answer = match (number, command) {
                (0, b"serverclose") => return Err(over("the server closes the session")),
                (0, _) => None,
                (_, b"rsp") => {
                    let index =
                        self.unanswered.remove(&number).ok_or_else(|| malformed("no command has this number"))?;
                    Some(Answer::new(index, data).ok_or_else(|| malformed("no code"))?)
                }
                _ => return Err(malformed("neither an answer nor a hint")),
            };
            self.input.advance(length);
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Ok(None)
    }
}

/// `CODE [SP TEXT] [LF DATA]`
struct Answer {
    /// The entry that the command carried.
    index: usize,
    data: Vec<u8>,
}

impl Answer {
    fn new(index: usize, data: &[u8]) -> Option<Self> {
        let (code, rest) = data.split_first_chunk::<3>()?;
        let whole = code.iter().all(u8::is_ascii_digit) && matches!(rest, [] | [b' ' | b'\n', ..]);
        whole.then(|| Self { index, data: data.to_vec() })
    }

    fn is_ok(&self) -> bool {
        self.data.starts_with(b"200")
    }

    /// Whether the offers behind the answer to `open` hold this one: `NAME=VALUE,VALUE`, one a line.
    fn offers(&self, name: &str, value: &str) -> bool {
        let data = String::from_utf8_lossy(&self.data);
        let values = data.lines().skip(1).filter_map(|line| line.split_once('='));
        values.filter(|offer| offer.0 == name).any(|offer| offer.1.split(',').any(|one| one.trim() == value))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.data[..self.data.len().min(MAX_SHOWN)].escape_ascii())
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::other(format!("malformed answer: {what}"))
}

fn over(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(900)
    }

    /// A session that has had answers enough, and the server's side of it, between which so many bytes fit.
    async fn session(room: usize) -> (Session<DuplexStream>, DuplexStream) {
        let (client, mut server) = duplex(room);
        let opened = tokio::spawn(Session::open(client, later()));
        assert!(said(&mut server).await.starts_with("1 open "));
        server.write_all(b"1 rsp 37 200 OK\nrelp_version=0\ncommands=syslog\n").await.unwrap();
        let mut session = opened.await.unwrap().unwrap();
        session.window = WINDOW;
        (session, server)
    }

    /// What one read gets.
    async fn said(server: &mut DuplexStream) -> String {
        let mut buffer = vec![0; 1_000_000];
        let length = server.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn entries(event: &Bytes, count: usize) -> Vec<Entry<'_>> {
        let entry = |index| Entry { batch: 0, index, head: "<14>", event, state: State::Open, refusal: String::new() };
        (0..count).map(entry).collect()
    }

    fn open(entries: &[Entry<'_>]) -> usize {
        entries.iter().filter(|entry| entry.state == State::Open).count()
    }

    #[tokio::test]
    async fn one_write_carries_a_window() {
        let (mut session, mut server) = session(1_000_000).await;
        let event = Bytes::from_static(b"{}");
        let mut entries = entries(&event, 300);
        let deliver = session.deliver(&mut entries, later());
        let serve = async {
            let window: String = (2..130).map(|number| format!("{number} syslog 6 <14>{{}}\n")).collect();
            assert_eq!(said(&mut server).await, window);
            let answers: String = (2..66).map(|number| format!("{number} rsp 6 200 OK\n")).collect();
            server.write_all(answers.as_bytes()).await.unwrap();
            let half: String = (130..194).map(|number| format!("{number} syslog 6 <14>{{}}\n")).collect();
            assert_eq!(said(&mut server).await, half);
            let answers: String = (66..302).map(|number| format!("{number} rsp 6 200 OK\n")).collect();
            let (known, early) = answers.split_at(answers.find("194 rsp").unwrap());
            server.write_all(known.as_bytes()).await.unwrap();
            said(&mut server).await;
            server.write_all(early.as_bytes()).await.unwrap();
        };
        assert!(matches!(tokio::join!(deliver, serve), (Ok(()), ())));
        assert_eq!(open(&entries), 0);
    }

    #[tokio::test]
    async fn entries_that_cannot_be_written_are_no_success() {
        let (mut session, server) = session(1000).await;
        let event = Bytes::from_static(b"{}");
        let mut entries = entries(&event, 3);
        session.broken = true;
        assert!(matches!(session.deliver(&mut entries, later()).await, Err(End::Lost(_))));
        session.broken = false;
        drop(server);
        assert!(matches!(session.deliver(&mut entries, later()).await, Err(End::Lost(_))));
        assert_eq!(open(&entries), 3);
    }

    #[tokio::test]
    async fn after_the_last_number_comes_1() {
        let (mut session, mut server) = session(1000).await;
        session.last = LAST_NUMBER - 1;
        let event = Bytes::from_static(b"{}");
        let mut entries = entries(&event, 3);
        let serve = async {
            let frames = "999999999 syslog 6 <14>{}\n1 syslog 6 <14>{}\n2 syslog 6 <14>{}\n";
            assert_eq!(said(&mut server).await, frames);
            server.write_all(b"1 rsp 6 200 OK\n2 rsp 6 200 OK\n999999999 rsp 6 200 OK\n").await.unwrap();
        };
        assert!(matches!(tokio::join!(session.deliver(&mut entries, later()), serve), (Ok(()), ())));
        assert_eq!(open(&entries), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_its_limit_from_the_last_answer_on() {
        let (mut session, mut server) = session(100_000).await;
        let event = Bytes::from_static(b"{}");
        let mut entries = entries(&event, 3);
        let start = Instant::now();
        let serve = async {
            for number in 2..4 {
                tokio::time::sleep(SILENCE - Duration::from_secs(1)).await;
                server.write_all(format!("{number} rsp 3 200\n").as_bytes()).await.unwrap();
            }
        };
        let (end, ()) = tokio::join!(session.deliver(&mut entries, later()), serve);
        assert!(matches!(end, Err(End::Lost(error)) if error.to_string() == "no answer in time"));
        assert_eq!(start.elapsed().as_secs(), 3 * SILENCE.as_secs() - 2);
        assert_eq!((open(&entries), session.unanswered()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_server_and_a_talkative_one_take_no_memory() {
        let (mut session, mut server) = session(10_000).await;
        let event = Bytes::from(vec![b'x'; 10_000]);
        let mut entries = entries(&event, 10_000);
        let until = later();
        // Reads nothing, and says things that are ignored.
        let talk = async {
            for _ in 0..1000 {
                server.write_all(format!("0 hint 2000 {}\n", "x".repeat(2000)).as_bytes()).await.unwrap();
            }
        };
        let (end, ()) = tokio::join!(session.deliver(&mut entries, until), talk);
        assert!(matches!(end, Err(End::Lost(_))));
        assert_eq!(open(&entries), 10_000);
        assert!(session.output.capacity() < 3 * BURST, "{}", session.output.capacity());
        assert!(session.input.capacity() < 5 * READ, "{}", session.input.capacity());
    }
}
