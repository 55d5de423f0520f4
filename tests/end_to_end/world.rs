//! A world of its own for each test: Mimecast, Devo, AWS, and function programs started on demand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use mimecast_devo::embedded::Embedded;
use serde_json::{Value, json};
use simulator::data::{self, Expected, SUMMARY_TABLE};
use simulator::{Devo, Mimecast};

use crate::support::aws::Aws;
use crate::support::runtime::{Deadline, Function, Outcome, Runtime};

pub const SOURCES: [&str; 11] = [
    "audit",
    "attachments",
    "impersonation",
    "url",
    "search",
    "view",
    "threatfeed",
    "messageholdlist",
    "messageholdsummary",
    "dashboard",
    "siem",
];

/// Those that are off unless asked for.
pub const ON_REQUEST: [&str; 4] = ["dlp", "release", "rejections", "siemci"];

/// Which of the two APIs the secret opens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Api {
    V1,
    V2,
}

pub struct World {
    pub api: Api,
    pub mimecast: Mimecast,
    pub devo: Arc<Devo>,
    pub aws: Aws,
    pub store: Embedded,
    /// The folder of the functions' programs.
    programs: PathBuf,
    env: BTreeMap<String, String>,
    running: BTreeMap<String, (Runtime, Function)>,
    /// What ended functions have printed, and what all have answered.
    printed: String,
    /// What nothing may show, as far as it has been replaced by now.
    secrets: Vec<String>,
}

impl World {
    pub async fn new(api: Api) -> World {
        let (mimecast, devo) = (Mimecast::start().await.unwrap(), Arc::new(Devo::start().await.unwrap()));
        let store = Embedded::memory().unwrap();
        let aws = Aws::start(store.clone());
        aws.set_secret("mimecast", &if api == Api::V1 { mimecast.secret_v1() } else { mimecast.secret_v2() });
        aws.set_secret("devo", &devo.secret());
        let env = [
            ("MIMECAST_SECRET_ID", "mimecast"),
            ("DEVO_SECRET_ID", "devo"),
            ("CHECKPOINT_TABLE", mimecast_devo::embedded::TABLE),
            ("INITIAL_LOOKBACK", "24h"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let secrets = vec![mimecast.secret_v1(), mimecast.secret_v2(), devo.secret()];
        // The programs of this package lie side by side.
        let programs = Path::new(env!("CARGO_BIN_EXE_audit")).with_file_name("");
        World {
            api,
            mimecast,
            devo,
            aws,
            store,
            programs,
            env,
            running: BTreeMap::new(),
            printed: String::new(),
            secrets,
        }
    }

    /// Takes the programs of functions started from here on out of another folder. For the benches.
    #[allow(dead_code)]
    pub fn programs(&mut self, folder: &Path) {
        self.programs = folder.to_owned();
    }

    /// Sets a variable for functions started from here on.
    pub fn set(&mut self, name: &str, value: &str) -> &mut World {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn unset(&mut self, name: &str) -> &mut World {
        self.env.remove(name);
        self
    }

    /// Invokes a function, in the environment that an earlier invocation left warm.
    pub async fn invoke_with(&mut self, source: &str, event: &str, deadline: Deadline) -> Outcome {
        self.start(source);
        let outcome = self.running[source].0.invoke(event, deadline).await;
        self.ended(source, outcome)
    }

    /// Invokes a function, and kills it when `instant` has come and it has not answered yet.
    #[allow(dead_code)]
    pub async fn invoke_until(&mut self, source: &str, instant: impl Future<Output = ()>) -> Outcome {
        self.start(source);
        let (runtime, function) = self.running.get_mut(source).unwrap();
        let invocation = runtime.invoke("{}", Deadline::In(Duration::from_secs(60)));
        let mut killed = false;
        let kill = async {
            instant.await;
            function.kill();
            killed = true;
            std::future::pending().await
        };
        let outcome = tokio::select! {
            outcome = invocation => outcome,
            outcome = kill => outcome,
        };
        // Also where an answer has come at that very moment.
        if killed {
            self.stop(source);
        }
        self.ended(source, outcome)
    }

    fn start(&mut self, source: &str) {
        if !self.running.contains_key(source) {
            let runtime = Runtime::start();
            let env: Vec<(&str, &str)> = self.env.iter().map(|(name, value)| (&**name, &**value)).collect();
            let function = Function::spawn(&self.programs.join(source), &runtime, &self.aws, &env);
            self.running.insert(source.to_owned(), (runtime, function));
        }
    }

    fn ended(&mut self, source: &str, outcome: Outcome) -> Outcome {
        self.printed.push_str(&format!("{outcome:?}\n"));
        if matches!(outcome, Outcome::Died { .. }) {
            self.stop(source);
        }
        outcome
    }

    pub async fn invoke(&mut self, source: &str) -> Outcome {
        self.invoke_with(source, "{}", Deadline::In(Duration::from_secs(60))).await
    }

    /// Invokes a function that is expected to answer.
    pub async fn run(&mut self, source: &str) -> Value {
        match self.invoke(source).await {
            Outcome::Answer(answer) => answer,
            other => panic!("{source}: {other:?}\n{}", self.output()),
        }
    }

    /// Invokes a function that is expected to fail: its error type and message.
    pub async fn fail(&mut self, source: &str) -> (String, String) {
        match self.invoke(source).await {
            Outcome::Failed { error_type, error_message } => (error_type, error_message),
            other => panic!("{source} did not fail: {other:?}\n{}", self.output()),
        }
    }

    /// The process of a function's environment, where there is one. For the benches.
    #[allow(dead_code)]
    pub fn pid(&self, source: &str) -> Option<u32> {
        self.running.get(source).map(|(_, function)| function.pid())
    }

    /// Ends a function's environment: the next invocation starts cold.
    pub fn stop(&mut self, source: &str) {
        if let Some((_, mut function)) = self.running.remove(source) {
            function.kill();
            self.printed.push_str(&function.output());
        }
    }

    pub fn stop_all(&mut self) {
        let sources: Vec<String> = self.running.keys().cloned().collect();
        sources.iter().for_each(|source| self.stop(source));
    }

    /// All sources that the API has: of the four that are off unless asked for, 1.0 lacks Cloud Integrated.
    #[allow(dead_code)]
    pub fn sources(&self) -> Vec<&'static str> {
        let has = |source: &&str| self.api == Api::V2 || *source != "siemci";
        SOURCES.into_iter().chain(ON_REQUEST).filter(has).collect()
    }

    /// Adds about `count` events, since `oldest`, to each of those that are off unless asked for.
    #[allow(dead_code)]
    pub fn fill_on_request(&self, seed: u64, oldest: TimeDelta, count: usize) -> Expected {
        let (now, sources) = (now(), self.sources());
        let add = |source| data::add(&self.mimecast, source, seed, now - oldest, now - TimeDelta::seconds(90), count);
        together(sources.into_iter().filter(|source| ON_REQUEST.contains(source)).map(add))
    }

    /// All that any function has printed.
    pub fn output(&self) -> String {
        let running = self.running.values().map(|(_, function)| function.output());
        running.fold(self.printed.clone(), |all, output| all + &output)
    }

    /// Asserts that Devo holds exactly `expected`, each event once.
    pub fn assert_delivered(&self, expected: &Expected) {
        assert_same(&self.devo.lines(), expected);
    }

    /// Asserts that nothing that any function has printed or answered holds a secret. Every world does so when it ends.
    pub fn assert_no_secret_printed(&self) {
        let output = self.output();
        let current = [self.mimecast.secret_v1(), self.mimecast.secret_v2(), self.devo.secret()];
        for secret in self.secrets.iter().chain(&current) {
            let secret: Value = serde_json::from_str(secret).unwrap();
            for (name, value) in secret.as_object().unwrap() {
                if !["base_url", "url", "domain"].contains(&name.as_str()) {
                    assert!(!output.contains(value.as_str().unwrap()), "{name} was printed:\n{output}");
                }
            }
        }
        let headers = self.mimecast.requests().into_iter().flat_map(|request| request.headers);
        for (_, value) in headers.filter(|(name, _)| name == "authorization") {
            // `Bearer <token>`, `MC <access key>:<signature>`
            let shown = value.split([' ', ':']).skip(1).find(|part| output.contains(part));
            assert_eq!(shown, None, "sent as authorization, and printed:\n{output}");
        }
        assert!(!output.contains("X-Amz-Signature="), "a signed link was printed:\n{output}");
        assert!(!output.replace("Bearer ***", "").contains("Bearer "), "a token was printed:\n{output}");
    }

    /// The dead-letter items of a source, without keys and times.
    pub async fn dead_letters(&self, source: &str) -> Vec<(Vec<u8>, String)> {
        let pk = format!("default#{source}");
        let items = self
            .store
            .client()
            .query()
            .table_name(mimecast_devo::embedded::TABLE)
            .key_condition_expression("pk = :pk AND begins_with(sk, :dead)")
            .expression_attribute_values(":pk", aws_sdk_dynamodb::types::AttributeValue::S(pk))
            .expression_attribute_values(":dead", aws_sdk_dynamodb::types::AttributeValue::S("dead#".into()))
            .send()
            .await
            .unwrap();
        let letter = |item: &std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue>| {
            (item["raw"].as_b().unwrap().as_ref().to_vec(), item["reason"].as_s().unwrap().clone())
        };
        items.items().iter().map(letter).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop_all();
            self.assert_no_secret_printed();
        }
    }
}

/// Compares multisets per table; of the hold summary without the `collectedAt` that the product adds.
pub fn assert_same(delivered: &BTreeMap<String, Vec<String>>, expected: &Expected) {
    let tables: Vec<&String> = expected.iter().filter(|(_, lines)| !lines.is_empty()).map(|(table, _)| table).collect();
    assert_eq!(delivered.keys().collect::<Vec<_>>(), tables);
    for (table, lines) in expected {
        let mut delivered = delivered.get(table).cloned().unwrap_or_default();
        if table == SUMMARY_TABLE {
            delivered.iter_mut().for_each(|line| *line = without_collected_at(line));
        }
        let mut lines = lines.clone();
        delivered.sort_unstable();
        lines.sort_unstable();
        if delivered != lines {
            let missing: Vec<_> = lines.iter().filter(|line| !delivered.contains(line)).take(3).collect();
            let foreign: Vec<_> = delivered.iter().filter(|line| !lines.contains(line)).take(3).collect();
            panic!(
                "{table}: {} of {} lines arrived; missing such as {missing:#?}; not of Mimecast's such as {foreign:#?}",
                delivered.len(),
                lines.len()
            );
        }
    }
}

pub fn without_collected_at(line: &str) -> String {
    let (event, stamp) = line.rsplit_once(r#","collectedAt":""#).expect("collectedAt is the last key");
    let stamp = stamp.strip_suffix(r#""}"#).expect("collectedAt is the last key");
    DateTime::parse_from_rfc3339(stamp).expect("collectedAt is RFC 3339");
    assert!(stamp.ends_with('Z'), "{stamp} is not UTC");
    format!("{event}}}")
}

#[allow(clippy::disallowed_methods)]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// What an answer counts.
pub fn counts(answer: &Value) -> Value {
    json!([answer["status"], answer["events"], answer["duplicates"], answer["rejected"]])
}

/// Adds up what several fillings of Mimecast are expected to give.
pub fn together(all: impl IntoIterator<Item = Expected>) -> Expected {
    let mut sum = Expected::new();
    for expected in all {
        for (table, lines) in expected {
            sum.entry(table).or_default().extend(lines);
        }
    }
    sum
}
