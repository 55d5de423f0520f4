//! The syslog line of an event, and how lines stand one after another in a stream.
//!
//! `<14>DATE HOST TABLE: {json}`: what Devo's own senders write (PRI 14 is user.info). Devo stamps events itself when they arrive;
//! the date is for relays and people.

use std::time::SystemTime;

use chrono::{DateTime, Utc};

use crate::{Date, Error, Framing, Options};

/// The longest event that goes out by syslog, in bytes. TCP and TLS have no limit, but a receiver that meets a line beyond its own
/// cuts it in silence (rsyslog at 8 kB, syslog-ng at 64 kB, the Devo relay at 32 kB unless configured), and none takes more.
pub(crate) const MAX_EVENT: usize = 1_000_000;

/// How events are written as lines.
#[derive(Debug)]
pub(crate) struct Line {
    host: String,
    date: Date,
    framing: Framing,
}

impl Line {
    pub fn new(options: &Options) -> Result<Self, Error> {
        let Options { host, date, framing, .. } = options;
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::Configuration("devo host: must not be empty or hold blanks".to_owned()));
        }
        Ok(Self { host: host.clone(), date: *date, framing: *framing })
    }

    /// What stands before the events of `table` that are sent now.
    pub fn head(&self, table: &str) -> String {
        self.head_at(table, SystemTime::now().into())
    }

    fn head_at(&self, table: &str, time: DateTime<Utc>) -> String {
        let date = match self.date {
            Date::Rfc3339 => time.format("%Y-%m-%dT%H:%M:%S%.3fZ"),
            Date::Collector => time.format("%Y-%m-%d %H:%M:%S%.3f"),
        };
        format!("<14>{date} {} {table}: ", self.host)
    }

    /// Appends one event to a stream, framed.
    pub fn append(&self, stream: &mut Vec<u8>, head: &str, event: &[u8]) {
        if self.framing == Framing::Octet {
            // The line feed counts: what devo-sdk sends in its multiline mode.
            stream.extend_from_slice(format!("{} ", head.len() + event.len() + 1).as_bytes());
        }
        stream.extend_from_slice(head.as_bytes());
        stream.extend_from_slice(event);
        stream.push(b'\n');
    }
}

/// Why an event can never go out by syslog.
pub(crate) fn too_large(event: &[u8]) -> Option<String> {
    (event.len() > MAX_EVENT).then(|| format!("too large for syslog: line of {} bytes", event.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(date: Date, framing: Framing) -> String {
        let line = Line::new(&Options { host: "h-1".to_owned(), date, framing, ..Options::default() }).unwrap();
        let time = DateTime::from_timestamp_millis(1_769_860_800_007).unwrap();
        let head = line.head_at("mail.mimecast.ttp.url", time);
        let mut stream = Vec::new();
        line.append(&mut stream, &head, b"{\"a\":1}");
        line.append(&mut stream, &head, "{\"b\":\"ü\"}".as_bytes());
        String::from_utf8(stream).unwrap()
    }

    #[test]
    fn lines_as_devo_s_senders_write_them() {
        assert_eq!(
            stream(Date::Rfc3339, Framing::Lf),
            "<14>2026-01-31T12:00:00.007Z h-1 mail.mimecast.ttp.url: {\"a\":1}\n\
             <14>2026-01-31T12:00:00.007Z h-1 mail.mimecast.ttp.url: {\"b\":\"ü\"}\n"
        );
        assert_eq!(
            stream(Date::Collector, Framing::Octet),
            "63 <14>2026-01-31 12:00:00.007 h-1 mail.mimecast.ttp.url: {\"a\":1}\n\
             66 <14>2026-01-31 12:00:00.007 h-1 mail.mimecast.ttp.url: {\"b\":\"ü\"}\n"
        );
    }

    #[test]
    fn the_host_is_one_word() {
        for host in ["", "a b", "a\nb", "a\u{0}"] {
            let error = Line::new(&Options { host: host.to_owned(), ..Options::default() }).unwrap_err();
            assert!(matches!(error, Error::Configuration(text) if text.starts_with("devo host: ")));
        }
    }

    #[test]
    fn the_limit_is_inclusive() {
        assert_eq!(too_large(&vec![b'x'; MAX_EVENT]), None);
        assert_eq!(too_large(&vec![b'x'; MAX_EVENT + 1]).unwrap(), "too large for syslog: line of 1000001 bytes");
    }
}
