//! DynamoDB without AWS: an engine in this process that keeps the checkpoint table in one `SQLite` file.
//!
//! The collector's store speaks to it through the same SDK client as in the cloud, so there is one checkpoint protocol
//! and one store. What the items mean is the store's business.
//!
//! Durability: the engine puts the file in WAL mode and leaves `synchronous` at `SQLite`'s default, FULL, so each write
//! is in the log and synced before its call returns. `tests/kill.rs` proves it for a killed process.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use dynoxide::actions::create_table::CreateTableRequest;
use dynoxide::actions::delete_table::DeleteTableRequest;
use dynoxide::actions::scan::ScanRequest;
use dynoxide::actions::update_time_to_live::{TimeToLiveSpecification, UpdateTimeToLiveRequest};
use dynoxide::types::{AttributeDefinition, AttributeValue, KeySchemaElement, KeyType, ScalarAttributeType};
use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// The checkpoint table's name here: hash key `pk`, sort key `sk`, TTL attribute `expires_at`, on-demand.
pub const TABLE: &str = "checkpoint";

/// `X-Amz-Target` is this, a dot and the operation.
const TARGET: &str = "DynamoDB_20120810";

/// The name of a copy, and how often one is tried.
const COPY: &str = "copy.db";
const COPIES: usize = 10;

/// AWS deletes expired items within days; an hour keeps the file small.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Why the checkpoint file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process works with the file.
    #[error("state file {} is in use by {}", path.display(), holder.map_or_else(|| "another process".to_owned(), |id| format!("process {id}")))]
    InUse {
        /// As given.
        path: PathBuf,
        /// The process, where the lock file names it.
        holder: Option<u32>,
    },
    /// The file or the lock file beside it cannot be created, opened or copied.
    #[error("state file {}: {reason}", path.display())]
    File {
        /// As given.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The engine refuses the file, for one because it is not a checkpoint file.
    #[error("state file {}: {}", path.display(), explained(reason))]
    Engine {
        /// As given.
        path: PathBuf,
        /// What the engine said.
        reason: Box<DynoxideError>,
    },
}

/// One file, one process. Clones are cheap and share the file; it is free again when the last clone, and the last
/// client made from one, is gone.
#[derive(Clone, Debug)]
pub struct Embedded(Arc<Inner>);

struct Inner {
    database: Database,
    swept: Mutex<Instant>,
    read_only: bool,
    /// Declared last, thus dropped last: the lock and a copy's folder outlive the database.
    _lock: Option<File>,
    _copy: Option<TempDir>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Embedded")
    }
}

impl Embedded {
    /// Opens the file at `path`. Creates it (readable by its owner alone) and the table where they do not exist.
    ///
    /// # Errors
    /// The path cannot be written, another process has the file open, or it is not a checkpoint file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |reason| Error::File { path: path.to_owned(), reason };
        // SQLite takes an empty file for a new database and gives its log files the same mode.
        match private().create_new(true).open(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        // One name for one file, so that links to it share the lock, and never `:memory:` or `file:...`, to which
        // SQLite gives a meaning of its own.
        let canonical = path.canonicalize().map_err(failed)?;
        let name = canonical.to_str().ok_or_else(|| failed(io::Error::other("the path is not UTF-8")))?;
        // The lock is a file of its own: closing any handle on the database file would drop SQLite's locks on it.
        let mut lock = private().create(true).open(format!("{name}.lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::InUse { path: path.to_owned(), holder: holder(&canonical) },
            TryLockError::Error(error) => failed(error),
        })?;
        // For whoever finds it in use. Where the disk is full there is no room for it, and that is told by who writes next.
        lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id())).ok();
        Self::start(path, Database::new(name), Some(lock))
    }

    /// Reads the file at `path`, also beside the process that works with it, or as another user who may read it. Changes nothing and
    /// leaves nothing behind; writes are refused.
    ///
    /// # Errors
    /// There is no such file, or it is not a checkpoint file.
    pub fn look(path: &Path) -> Result<Self, Error> {
        let failed = |reason| Error::File { path: path.to_owned(), reason };
        let canonical = path.canonicalize().map_err(failed)?;
        let database = |path: &Path| Database::new(&path.to_string_lossy());
        // SQLite lets several processes read while one writes. Alone it would make files of its own beside this one, which the user
        // of the next collector may not be able to open: then a copy is read.
        let is_in_use = holder(&canonical).is_some();
        let (database, copy) = match is_in_use.then(|| database(&canonical)) {
            Some(Ok(database)) => (database, None),
            _ => {
                let folder = tempfile::tempdir().map_err(failed)?;
                copy(&canonical, &folder.path().join(COPY)).map_err(failed)?;
                let database = database(&folder.path().join(COPY))
                    .map_err(|reason| Error::Engine { path: path.to_owned(), reason: Box::new(reason) })?;
                (database, Some(folder))
            }
        };
        let swept = Mutex::new(Instant::now());
        Ok(Self(Arc::new(Inner { database, swept, read_only: true, _lock: None, _copy: copy })))
    }

    /// An empty table in memory, for tests and trials.
    ///
    /// # Errors
    /// The engine does not start.
    pub fn memory() -> Result<Self, Error> {
        Self::start(Path::new(":memory:"), Database::memory(), None)
    }

    fn start(path: &Path, database: dynoxide::Result<Database>, lock: Option<File>) -> Result<Self, Error> {
        let prepare = |database: Database| {
            create_table(&database)?;
            match database.sweep_ttl() {
                // The engine makes a table in two steps, and a process has died between them: nothing was ever in it.
                Err(DynoxideError::InternalServerError(reason)) if reason.contains("no such table") => {
                    database.delete_table(DeleteTableRequest { table_name: TABLE.to_owned() })?;
                    create_table(&database)?;
                }
                swept => drop(swept?),
            }
            Ok(database)
        };
        let database = database
            .and_then(prepare)
            .map_err(|reason| Error::Engine { path: path.to_owned(), reason: Box::new(reason) })?;
        let swept = Mutex::new(Instant::now());
        Ok(Self(Arc::new(Inner { database, swept, read_only: false, _lock: lock, _copy: None })))
    }

    /// One DynamoDB call as on the wire: the operation (`GetItem`) and its JSON body to HTTP status and JSON body.
    /// Only the operations that the product uses are known. Blocks until the call is durable.
    pub fn execute(&self, operation: &str, body: &[u8]) -> (u16, Vec<u8>) {
        if !self.0.read_only {
            self.sweep();
        }
        let database = &self.0.database;
        let answer = match operation {
            "GetItem" => call(body, |request| database.get_item(request)),
            "Query" => call(body, |request| database.query(request)),
            _ if self.0.read_only => {
                Err(DynoxideError::AccessDeniedException("the checkpoint file is open for reading".to_owned()))
            }
            "PutItem" => call(body, |request| database.put_item(request)),
            "UpdateItem" => call(body, |request| database.update_item(request)),
            "DeleteItem" => call(body, |request| database.delete_item(request)),
            "TransactWriteItems" => call(body, |request| database.transact_write_items(request)),
            _ => {
                let unknown = r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#;
                return (400, unknown.into());
            }
        };
        match answer {
            Ok(body) => (200, body),
            Err(error @ DynoxideError::InternalServerError(_)) => {
                let explained = DynoxideError::InternalServerError(explained(&error));
                (explained.status_code(), explained.to_json().into_bytes())
            }
            Err(error) => (error.status_code(), error.to_json().into_bytes()),
        }
    }

    /// The hash keys that there are. Not a call on the wire: a function that needed `Scan` would be denied it on AWS.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn partitions(&self) -> Result<BTreeSet<String>, Error> {
        let failed = |reason| Error::Engine { path: ":memory:".into(), reason: Box::new(reason) };
        let (mut found, mut next) = (BTreeSet::new(), None);
        loop {
            let request = ScanRequest {
                table_name: TABLE.to_owned(),
                projection_expression: Some("pk".to_owned()),
                exclusive_start_key: next,
                ..ScanRequest::default()
            };
            let page = self.0.database.scan(request).map_err(failed)?;
            for item in page.items.into_iter().flatten() {
                if let Some(AttributeValue::S(pk)) = item.get("pk") {
                    found.insert(pk.clone());
                }
            }
            next = page.last_evaluated_key;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// A DynamoDB client that calls this engine directly: no port, no network, no account.
    pub fn client(&self) -> Client {
        let connector = SharedHttpConnector::new(Connector(self.clone()));
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::from_static("local"))
            .credentials_provider(Credentials::new("local", "local", None, None, "embedded"))
            .endpoint_url("http://embedded")
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        Client::from_conf(config)
    }

    /// Deletes expired items, at most once per [`SWEEP_EVERY`]. Its failure is no reason to fail the caller's call.
    fn sweep(&self) {
        {
            let mut swept = self.0.swept.lock().unwrap_or_else(PoisonError::into_inner);
            if swept.elapsed() < SWEEP_EVERY {
                return;
            }
            *swept = Instant::now();
        }
        if let Err(error) = self.0.database.sweep_ttl() {
            tracing::warn!(%error, "cannot delete expired checkpoint items");
        }
    }
}

/// The process that works with the file, where there is one.
fn holder(canonical: &Path) -> Option<u32> {
    let id = fs::read_to_string(format!("{}.lock", canonical.display())).ok()?.trim().parse().ok()?;
    Path::new(&format!("/proc/{id}")).exists().then_some(id)
}

/// Copies a file and the log beside it. Where somebody writes meanwhile, until nobody has.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    let state = |path: &Path| fs::metadata(path).and_then(|file| Ok((file.len(), file.modified()?))).ok();
    for _ in 0..COPIES {
        let before = (state(from), state(&log(from)));
        fs::copy(from, to)?;
        match fs::copy(log(from), log(to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if (state(from), state(&log(from))) == before {
            return Ok(());
        }
    }
    Err(io::Error::other("it changes too fast to be read: look again later"))
}

/// What the engine says, in words for who looks after the host.
fn explained(error: &DynoxideError) -> String {
    let said = error.to_string();
    let known = [
        ("is full", "the disk is full: make room, and collecting goes on by itself"),
        ("readonly", "it cannot be written: it and its folder have to belong to the user who runs this"),
        ("unable to open", "it cannot be opened: it and its folder have to belong to the user who runs this"),
        ("valid SQLite", DAMAGED),
        ("not a database", DAMAGED),
        ("malformed", DAMAGED),
        (
            "disk I/O error",
            "the disk cannot be read or written: look for free space, a read-only file system or errors in the system's log",
        ),
        ("locked", "another program holds it"),
    ];
    known.into_iter().find(|(sign, _)| said.contains(sign)).map_or(said.clone(), |(_, words)| words.to_owned())
}

const DAMAGED: &str =
    "it is damaged or no state file: put a copy in its place, or move it away to start anew from INITIAL_LOOKBACK";

/// How files come to be that only their owner can read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn create_table(database: &Database) -> dynoxide::Result<()> {
    let key = |name: &str, key_type| KeySchemaElement { attribute_name: name.to_owned(), key_type };
    let string =
        |name: &str| AttributeDefinition { attribute_name: name.to_owned(), attribute_type: ScalarAttributeType::S };
    let created = database.create_table(CreateTableRequest {
        table_name: TABLE.to_owned(),
        key_schema: vec![key("pk", KeyType::HASH), key("sk", KeyType::RANGE)],
        attribute_definitions: vec![string("pk"), string("sk")],
        billing_mode: Some("PAY_PER_REQUEST".to_owned()),
        ..CreateTableRequest::default()
    });
    match created {
        Ok(_) | Err(DynoxideError::ResourceInUseException(_)) => {}
        Err(error) => return Err(error),
    }
    // Also for a table that exists: the process may have died between the two calls.
    database.update_time_to_live(UpdateTimeToLiveRequest {
        table_name: TABLE.to_owned(),
        time_to_live_specification: TimeToLiveSpecification { attribute_name: "expires_at".to_owned(), enabled: true },
    })?;
    Ok(())
}

fn call<Q: DeserializeOwned, A: Serialize>(
    body: &[u8],
    operation: impl FnOnce(Q) -> dynoxide::Result<A>,
) -> dynoxide::Result<Vec<u8>> {
    // The engine checks a request while reading it, so what is wrong is most often the request's content.
    let request =
        serde_json::from_slice(body).map_err(|error| DynoxideError::ValidationException(error.to_string()))?;
    serde_json::to_vec(&operation(request)?).map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

/// The engine in the place of the SDK's HTTP connection.
#[derive(Debug)]
struct Connector(Embedded);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let engine = self.0.clone();
        // A write waits for the disk, and the runtime's one thread serves other sources meanwhile: not inline. A
        // caller that gives up leaves a call which still takes effect, as it would on a network.
        HttpConnectorFuture::new(async move {
            tokio::task::spawn_blocking(move || answer(&engine, request))
                .await
                .map_err(|error| ConnectorError::other(error.into(), None))?
        })
    }
}

fn answer(engine: &Embedded, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let operation = request
        .headers()
        .get("x-amz-target")
        .and_then(|target| target.strip_prefix(TARGET)?.strip_prefix('.'))
        .ok_or_else(|| ConnectorError::user("not a DynamoDB request".into()))?;
    let body =
        request.body().bytes().ok_or_else(|| ConnectorError::user("a DynamoDB request is not a stream".into()))?;
    let (status, body) = engine.execute(operation, body);
    let status = status.try_into().map_err(|error| ConnectorError::other(Box::new(error), None))?;
    Ok(HttpResponse::new(status, SdkBody::from(body)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::time::{SystemTime, UNIX_EPOCH};

    use aws_sdk_dynamodb::types::AttributeValue::{N, S};
    use serde_json::json;

    use super::*;

    fn put(engine: &Embedded, item: &serde_json::Value) {
        let body = json!({"TableName": TABLE, "Item": item}).to_string();
        assert_eq!(engine.execute("PutItem", body.as_bytes()), (200, b"{}".to_vec()));
    }

    fn get(engine: &Embedded, sk: &str) -> serde_json::Value {
        let body = json!({"TableName": TABLE, "Key": {"pk": {"S": "p"}, "sk": {"S": sk}}});
        let (status, answer) = engine.execute("GetItem", body.to_string().as_bytes());
        assert_eq!(status, 200);
        serde_json::from_slice(&answer).unwrap()
    }

    #[test]
    fn keeps_items_in_the_file_and_drops_the_expired_at_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.db");
        let engine = Embedded::open(&path).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let yesterday = now.as_secs() - 86_400;
        put(&engine, &json!({"pk": {"S": "p"}, "sk": {"S": "kept"}}));
        put(&engine, &json!({"pk": {"S": "p"}, "sk": {"S": "gone"}, "expires_at": {"N": yesterday.to_string()}}));
        drop(engine);

        let engine = Embedded::open(&path).unwrap();
        assert_eq!(get(&engine, "kept"), json!({"Item": {"pk": {"S": "p"}, "sk": {"S": "kept"}}}));
        assert_eq!(get(&engine, "gone"), json!({}));
    }

    #[test]
    fn one_process_at_a_time_until_the_last_client_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.db");
        let client = Embedded::open(&path).unwrap().client();
        assert_eq!(
            Embedded::open(&path).unwrap_err().to_string(),
            format!("state file {} is in use by process {}", path.display(), std::process::id())
        );
        #[cfg(unix)]
        {
            let link = directory.path().join("link");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert!(matches!(Embedded::open(&link), Err(Error::InUse { .. })));
        }
        drop(client);
        Embedded::open(&path).unwrap();
    }

    #[test]
    fn a_table_that_was_half_made_when_its_process_died_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.db");
        drop(Embedded::open(&path).unwrap());
        rusqlite::Connection::open(&path).unwrap().execute(&format!("DROP TABLE \"{TABLE}\""), []).unwrap();
        let item = json!({"pk": {"S": "p"}, "sk": {"S": "s"}});
        put(&Embedded::open(&path).unwrap(), &item);
        assert_eq!(get(&Embedded::open(&path).unwrap(), "s")["Item"], item);
    }

    #[test]
    fn one_can_look_while_another_works_and_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.db");
        assert!(matches!(Embedded::look(&path), Err(Error::File { .. })));
        let engine = Embedded::open(&path).unwrap();
        let item = json!({"pk": {"S": "p"}, "sk": {"S": "s"}});
        put(&engine, &item);
        let other = Embedded::look(&path).unwrap();
        assert_eq!(get(&other, "s")["Item"], item);
        put(&engine, &json!({"pk": {"S": "p"}, "sk": {"S": "later"}}));
        assert_eq!(get(&other, "later")["Item"]["sk"], json!({"S": "later"}));
        let (status, answer) =
            other.execute("PutItem", json!({"TableName": TABLE, "Item": item}).to_string().as_bytes());
        assert!(status == 400 && String::from_utf8_lossy(&answer).contains("AccessDenied"));
    }

    #[test]
    fn looking_changes_nothing_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("checkpoint.db");
        let engine = Embedded::open(&path).unwrap();
        let item = json!({"pk": {"S": "p"}, "sk": {"S": "s"}});
        put(&engine, &item);
        // As a process leaves it that is killed: the log holds what the file does not yet.
        let left = directory.path().join("left.db");
        copy(&path, &left).unwrap();
        let names =
            || fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        let before = (names().len(), fs::read(&left).unwrap());
        assert_eq!(get(&Embedded::look(&left).unwrap(), "s")["Item"], item);
        assert_eq!((names().len(), fs::read(&left).unwrap()), before);
    }

    #[test]
    fn the_engine_s_words_are_translated() {
        let internal = |text: &str| explained(&DynoxideError::InternalServerError(text.to_owned()));
        for (said, words) in [
            ("database or disk is full", "make room"),
            ("attempt to write a readonly database", "belong to the user"),
            ("database disk image is malformed", "put a copy in its place"),
            ("file is not a database", "put a copy in its place"),
            ("disk I/O error", "free space"),
            ("database is locked", "another program"),
        ] {
            let text = internal(said);
            assert!(text.contains(words) && !text.contains(said), "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_files_belong_to_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let engine = Embedded::open(&directory.path().join("checkpoint.db")).unwrap();
        put(&engine, &json!({"pk": {"S": "p"}, "sk": {"S": "s"}}));
        let mut names = Vec::new();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        assert_eq!(names, ["checkpoint.db", "checkpoint.db-shm", "checkpoint.db-wal", "checkpoint.db.lock"]);
    }

    #[test]
    fn errors_name_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing").join("checkpoint.db");
        let error = Embedded::open(&missing).unwrap_err().to_string();
        assert!(error.contains(missing.to_str().unwrap()), "{error}");

        let text = directory.path().join("notes.txt");
        fs::write(&text, "dear diary, ".repeat(100)).unwrap();
        let error = Embedded::open(&text).unwrap_err().to_string();
        assert!(error.contains(text.to_str().unwrap()), "{error}");
        assert_eq!(fs::read_to_string(&text).unwrap(), "dear diary, ".repeat(100));
    }

    #[test]
    fn knows_only_what_the_product_uses() {
        let engine = Embedded::memory().unwrap();
        let unknown = br#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#;
        for operation in ["Scan", "DeleteTable", "CreateTable", ""] {
            assert_eq!(engine.execute(operation, br#"{"TableName":"checkpoint"}"#), (400, unknown.to_vec()));
        }
        for nonsense in ["", "[", "{}", r#"{"TableName":7}"#] {
            let (status, body) = engine.execute("GetItem", nonsense.as_bytes());
            assert_eq!(status, 400);
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["__type"], "com.amazon.coral.validate#ValidationException");
        }
    }

    #[tokio::test]
    async fn the_client_reaches_the_same_items_as_the_engine() {
        let engine = Embedded::memory().unwrap();
        let answer = engine
            .client()
            .update_item()
            .table_name(TABLE)
            .key("pk", S("p".to_owned()))
            .key("sk", S("s".to_owned()))
            .update_expression("ADD epoch :one")
            .expression_attribute_values(":one", N("1".to_owned()))
            .send()
            .await;
        answer.unwrap();
        assert_eq!(get(&engine, "s")["Item"]["epoch"], json!({"N": "1"}));
    }
}
