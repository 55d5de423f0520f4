//! What a fault can hit: each source behind each of the two APIs (those that are off unless asked for behind one), and the groups of them that rows name.

use collector::source::Kind;

use crate::row::Breadth;
use crate::world::{Api, ON_REQUEST, SOURCES};

/// A source as one of the two APIs serves it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subject {
    pub source: &'static str,
    pub api: Api,
}

/// Which subjects a fault can hit.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    All,
    /// API 2.0, where there are tokens that expire.
    V2,
    Windows,
    /// All that answer with a JSON envelope: windows and snapshots.
    Envelopes,
    Snapshots,
    /// Streams whose answers are files: SIEM 1.0 and the threat feeds.
    Files,
    /// SIEM 2.0, whose answers are signed links.
    Links,
    Streams,
    Siem,
    /// Streams with several feeds.
    Feeds,
    /// What takes several calls to read: windows and streams.
    Paged,
    /// All that remember what they have sent by a mark or a hash.
    Remembering,
    /// Windows and SIEM: the rows whose bytes a test can choose.
    RawLines,
}

/// One subject of each kind, for faults that are the same to all of a kind.
const EACH_KIND: [Subject; 7] = [
    Subject { source: "audit", api: Api::V1 },
    Subject { source: "url", api: Api::V2 },
    Subject { source: "dashboard", api: Api::V1 },
    Subject { source: "messageholdsummary", api: Api::V2 },
    Subject { source: "threatfeed", api: Api::V2 },
    Subject { source: "siem", api: Api::V1 },
    Subject { source: "siem", api: Api::V2 },
];

/// Sources that are off unless asked for, the APIs by turns: they are read by the code that reads the others.
const ON_REQUEST_BY: [Api; 4] = [Api::V1, Api::V2, Api::V1, Api::V2];

impl Reach {
    /// The subjects, or those of them that the breadth names.
    pub fn subjects(self, breadth: Breadth) -> Vec<Subject> {
        let all = SOURCES.into_iter().flat_map(|source| [Api::V1, Api::V2].map(|api| Subject { source, api }));
        let named = |(number, subject): &(usize, Subject)| match breadth {
            Breadth::Every => true,
            // The APIs by turns; of SIEM, where they have nothing in common, both.
            Breadth::EachSource(_) if subject.is_on_request() => true,
            Breadth::EachSource(_) => number % 4 == 0 || number % 4 == 3 || subject.source == "siem",
            Breadth::EachKind(_) => EACH_KIND.contains(subject),
        };
        let on_request = ON_REQUEST.into_iter().zip(ON_REQUEST_BY).map(|(source, api)| Subject { source, api });
        let named = all.chain(on_request).enumerate().filter(named).map(|(_, subject)| subject);
        named.filter(|subject| self.has(subject)).collect()
    }

    fn has(self, subject: &Subject) -> bool {
        let (window, stream) = (subject.is_window(), subject.is_stream());
        match self {
            Self::All => true,
            Self::V2 => subject.api == Api::V2,
            Self::Windows => window,
            Self::Envelopes => !stream,
            Self::Snapshots => !window && !stream,
            Self::Files => stream && !subject.has_links(),
            Self::Links => subject.has_links(),
            Self::Streams => stream,
            Self::Siem => subject.is_siem(),
            Self::Feeds => subject.source == "threatfeed" || subject.has_links(),
            Self::Paged => window || stream,
            Self::Remembering => !subject.is_polled(),
            Self::RawLines => window || subject.is_siem(),
        }
    }
}

impl Subject {
    fn described(&self) -> &'static collector::Source {
        functions::ALL.into_iter().find(|source| source.name == self.source).unwrap()
    }

    /// Its table, or what its tables begin with.
    pub fn table(&self) -> &'static str {
        self.described().table
    }

    /// The endpoint that is asked for it.
    pub fn path(&self) -> &'static str {
        match &self.described().kind {
            Kind::Window(window) => window.path,
            Kind::Snapshot(snapshot) => snapshot.path,
            Kind::Stream(_) if self.source == "threatfeed" => "/api/ttp/threat-intel/get-feed",
            Kind::Stream(_) if self.source == "siemci" => "/siem/v1/batch/events/ci",
            Kind::Stream(_) if self.has_links() => "/siem/v1/batch/events/cg",
            Kind::Stream(_) => "/api/audit/get-siem-logs",
        }
    }

    /// What is in the calls of one feed among several, and not the first.
    pub fn feed(&self) -> &'static str {
        match self.source {
            "siemci" => "type=mailflow",
            "siem" => "type=process",
            _ => "malware_grid",
        }
    }

    pub fn is_window(&self) -> bool {
        matches!(self.described().kind, Kind::Window(_))
    }

    pub fn is_stream(&self) -> bool {
        matches!(self.described().kind, Kind::Stream(_))
    }

    pub fn has_links(&self) -> bool {
        self.is_siem() && self.api == Api::V2
    }

    /// Of the gateway or of Cloud Integrated.
    pub fn is_siem(&self) -> bool {
        ["siem", "siemci"].contains(&self.source)
    }

    /// A type of its SIEM events, which has a feed of its own.
    pub fn siem_type(&self) -> &'static str {
        if self.source == "siemci" { "entities" } else { "receipt" }
    }

    pub fn is_on_request(&self) -> bool {
        ON_REQUEST.contains(&self.source)
    }

    /// Every poll is sent whole.
    pub fn is_polled(&self) -> bool {
        self.source == "messageholdsummary"
    }
}
