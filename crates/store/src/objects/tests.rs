//! Opening stores, and the probe on stores that honour the condition, ignore it, race, fail and lose answers.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use aquifer_testkit::{Fault, FaultPlan, FaultyObjects, RequestKind};
use async_trait::async_trait;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::*;
use crate::ErrorKind;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

async fn names(objects: &dyn ObjectStore) -> Vec<String> {
    objects
        .list(None)
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_directory_is_made_and_empty_ones_disappear() {
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("file://{}", dir.path().join("new/below").display());
    let (objects, base) = open(&uri, &BTreeMap::new()).unwrap();
    let path = base.join("a").join("b");
    objects.put(&path, "x".into()).await.unwrap();
    assert!(dir.path().join("new/below/a/b").is_file());
    objects.delete(&path).await.unwrap();
    assert!(!dir.path().join("new/below/a").exists());
    assert!(dir.path().join("new/below").is_dir());
    std::fs::write(dir.path().join("file"), "x").unwrap();
    let error = open(
        dir.path().join("file/below").to_str().unwrap(),
        &BTreeMap::new(),
    )
    .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage);
    assert!(error.message.contains("cannot be created"), "{error}");
}

#[tokio::test]
async fn memory_is_found_again_by_name() {
    let (first, base) = open("memory://found-again/p", &BTreeMap::new()).unwrap();
    first
        .put(&base.clone().join("a"), "x".into())
        .await
        .unwrap();
    let (second, _) = open("memory://found-again", &BTreeMap::new()).unwrap();
    assert_eq!(names(&*second).await, ["p/a"]);
    let (other, _) = open("memory://another", &BTreeMap::new()).unwrap();
    assert!(names(&*other).await.is_empty());
}

#[tokio::test]
async fn stores_that_honour_the_condition_pass_and_are_left_clean() {
    let memory = InMemory::new();
    probe_create_if_absent(&memory, &"base".into())
        .await
        .unwrap();
    assert!(names(&memory).await.is_empty());
    let dir = tempfile::tempdir().unwrap();
    let (local, base) = open(dir.path().to_str().unwrap(), &BTreeMap::new()).unwrap();
    probe_create_if_absent(&*local, &base).await.unwrap();
    assert!(names(&*local).await.is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_store_that_overwrites_is_refused() {
    let truth = Arc::new(InMemory::new());
    let plan = FaultPlan {
        ignore_create_if_absent: true,
        ..FaultPlan::default()
    };
    let objects = FaultyObjects::with_plan(truth.clone(), plan);
    let error = probe_create_if_absent(&objects, &"".into())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage);
    assert!(
        error
            .message
            .contains("execution.checkpointing.allow-unsafe-commits"),
        "{error}"
    );
    assert!(error.message.contains("both commit"), "{error}");
    assert!(names(&*truth).await.is_empty());
}

#[tokio::test]
async fn many_processes_may_probe_at_once_and_leftovers_do_not_matter() {
    let memory = InMemory::new();
    memory
        .put(&"_probe/create-if-absent-turn-001".into(), "left".into())
        .await
        .unwrap();
    memory
        .put(&"_probe/create-if-absent-race-001".into(), "left".into())
        .await
        .unwrap();
    let base = Path::default();
    let probes = (0..20).map(|_| probe_create_if_absent(&memory, &base));
    futures_util::future::try_join_all(probes).await.unwrap();
    assert_eq!(names(&memory).await.len(), 2, "what others left is theirs");
}

#[tokio::test]
async fn errors_of_the_store_are_neither_a_pass_nor_a_refusal() {
    for fault in [
        Fault::ErrorApplied,
        Fault::ErrorNotApplied,
        Fault::Throttled,
    ] {
        for skipped in 0..2 {
            let objects = FaultyObjects::new(Arc::new(InMemory::new()));
            let hook_objects = objects.clone();
            let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            // The first or the second put fails.
            objects.set_hook(Some(Arc::new(move |kind| {
                if kind == RequestKind::Put
                    && seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == skipped
                {
                    hook_objects.fail_next(kind, fault);
                }
                Box::pin(std::future::ready(()))
            })));
            probe_create_if_absent(&objects, &"".into()).await.unwrap();
        }
    }
    let dead = FaultPlan {
        crash_at: Some(0),
        ..FaultPlan::default()
    };
    let objects = FaultyObjects::with_plan(Arc::new(InMemory::new()), dead);
    let error = probe_create_if_absent(&objects, &"".into())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry);
}

/// Looks whether the name is there, lets others run, and then writes: right in turn, wrong in a race.
#[derive(Debug)]
struct Unlocked(InMemory);

impl fmt::Display for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unlocked")
    }
}

type Answer<T> = object_store::Result<T>;

#[async_trait]
impl ObjectStore for Unlocked {
    async fn put_opts(
        &self,
        path: &Path,
        body: PutPayload,
        options: PutOptions,
    ) -> Answer<PutResult> {
        if options.mode == PutMode::Create && self.0.head(path).await.is_ok() {
            return self.0.put_opts(path, body, options).await;
        }
        tokio::task::yield_now().await;
        self.0.put(path, body).await
    }
    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Answer<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Answer<GetResult> {
        self.0.get_opts(path, options).await
    }
    fn delete_stream(
        &self,
        paths: BoxStream<'static, Answer<Path>>,
    ) -> BoxStream<'static, Answer<Path>> {
        self.0.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Answer<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Answer<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_store_that_checks_without_a_lock_is_refused() {
    let objects = Unlocked(InMemory::new());
    let error = probe_create_if_absent(&objects, &"".into())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage);
    assert!(error.message.contains("8 of 8"), "{error}");
}

/// Answers one request as S3 refuses a signature and returns the request's head.
fn refuse_one_request() -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap());
        let mut head = Vec::new();
        let mut body_bytes = 0;
        for line in request.by_ref().lines() {
            let line = line.unwrap();
            if line.is_empty() {
                break;
            }
            if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                body_bytes = length.trim().parse().unwrap();
            }
            head.push(line);
        }
        // A connection that is closed with something unread is reset, and the answer may be lost.
        request.read_exact(&mut vec![0; body_bytes]).unwrap();
        let body = "<?xml version=\"1.0\"?><Error><Code>InvalidAccessKeyId</Code><Message>unknown key</Message>\
                    <AWSAccessKeyId>AKIAKEY</AWSAccessKeyId></Error>";
        write!(
            stream,
            "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        head
    });
    (endpoint, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_is_asked_as_configured_and_its_secrets_stay_secret() {
    for by_environment in [false, true] {
        let (endpoint, server) = refuse_one_request();
        let keys = [&*endpoint, "AKIAKEY", "verysecret", "eu-test-7"];
        let names = if by_environment {
            [
                "AWS_ENDPOINT_URL",
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "AWS_REGION",
            ]
        } else {
            ["s3.endpoint", "s3.access-key", "s3.secret-key", "s3.region"]
        };
        let given = map(&[0, 1, 2, 3].map(|i| (names[i], keys[i])));
        let stale = map(&[
            ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9"),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "y"),
        ]);
        let (objects, base) = if by_environment {
            open_with_environment("s3://bucket/jobs", &BTreeMap::new(), &given)
        } else {
            open_with_environment("s3a://bucket/jobs", &given, &stale)
        }
        .unwrap();
        let error = probe_create_if_absent(&*objects, &base).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(
            error.message.contains("InvalidAccessKeyId: unknown key"),
            "{error}"
        );
        let shown = format!("{error:?} {error} {objects:?} {objects}");
        assert!(
            !shown.contains("verysecret") && !shown.contains("AKIAKEY"),
            "{shown}"
        );
        let head = server.join().unwrap();
        assert!(head[0].starts_with("PUT /bucket/jobs/_probe/"), "{head:?}");
        let head = head.join("\n").to_ascii_lowercase();
        assert!(head.contains("if-none-match: *"), "{head}");
        assert!(head.contains("/eu-test-7/s3/aws4_request"), "{head}");
    }
}

#[test]
fn wrong_s3_settings_are_said() {
    for (settings, says) in [
        (
            map(&[("s3.access-key", "verysecret")]),
            "s3.secret-key is not",
        ),
        (
            map(&[("s3.secret-key", "verysecret")]),
            "s3.access-key is not",
        ),
        (map(&[("s3.path.style.access", "maybe")]), "`maybe`"),
        (map(&[("s3.endpoint", "http://a b")]), "not a URL"),
        (
            map(&[("s3.endpoint", "http://localhost:9000")]),
            "needs keys",
        ),
    ] {
        let error = open_with_environment("s3://bucket", &settings, &BTreeMap::new()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.message.contains(says), "{error}");
        assert!(!format!("{error:?}").contains("verysecret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn google_is_asked_for_a_create_with_a_condition() {
    let (endpoint, server) = refuse_one_request();
    let given = map(&[("fs.gs.storage.root.url", &*endpoint)]);
    let (objects, base) =
        open_with_environment("gs://bucket/jobs", &given, &BTreeMap::new()).unwrap();
    let error = probe_create_if_absent(&*objects, &base).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage, "{error}");
    assert_eq!(objects.to_string(), "GoogleCloudStorage(bucket)");
    let head = server.join().unwrap();
    let asked = head[0].replace("%2F", "/").replace("%5F", "_");
    assert!(asked.starts_with("PUT /bucket/jobs/_probe/"), "{asked}");
    let head = head.join("\n").to_ascii_lowercase();
    assert!(head.contains("x-goog-if-generation-match: 0"), "{head}");
    // No credentials are looked for, least of all at the address where clouds hand out roles.
    let authorization = head.lines().find(|line| line.starts_with("authorization:"));
    assert!(
        authorization.is_none_or(|line| line.trim_end() == "authorization: bearer"),
        "{head}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_is_asked_for_a_create_with_a_condition_and_its_key_stays_secret() {
    for by_environment in [false, true] {
        let (endpoint, server) = refuse_one_request();
        let endpoint = format!("{endpoint}/me");
        // "verysecret" in Base64.
        let key = "dmVyeXNlY3JldA==";
        let (settings, environment) = if by_environment {
            let given = [
                ("AZURE_STORAGE_ENDPOINT", &*endpoint),
                ("AZURE_STORAGE_ACCOUNT_KEY", key),
            ];
            (BTreeMap::new(), map(&given))
        } else {
            let given = [
                ("fs.azure.endpoint", &*endpoint),
                ("fs.azure.account.key.me.dfs.core.windows.net", key),
            ];
            (map(&given), map(&[("AZURE_STORAGE_ACCOUNT_KEY", "AAAA")]))
        };
        let uri = "abfss://data@me.dfs.core.windows.net/jobs";
        let (objects, base) = open_with_environment(uri, &settings, &environment).unwrap();
        let error = probe_create_if_absent(&*objects, &base).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        let shown = format!("{error:?} {error} {objects:?} {objects}");
        assert!(
            !shown.contains(key) && !shown.contains("verysecret"),
            "{shown}"
        );
        assert!(shown.contains("MicrosoftAzure(data@me)"), "{shown}");
        let head = server.join().unwrap();
        assert!(head[0].starts_with("PUT /me/data/jobs/_probe/"), "{head:?}");
        let head = head.join("\n");
        assert!(
            head.to_ascii_lowercase().contains("if-none-match: *"),
            "{head}"
        );
        assert!(head.contains("SharedKey me:"), "{head}");
    }
}

#[test]
fn wrong_settings_of_google_azure_and_hdfs_are_said() {
    let abfs = "abfss://data@me.dfs.core.windows.net";
    for (uri, settings, says) in [
        (
            "gs://bucket",
            map(&[("fs.gs.storage.root.url", "ftp://x")]),
            "its scheme is `ftp`",
        ),
        (
            "gs://bucket",
            map(&[(
                "fs.gs.auth.service.account.json.keyfile",
                "/nowhere/key.json",
            )]),
            "/nowhere/key.json",
        ),
        (
            "gs://bucket",
            map(&[("gs.retry.total-timeout", "soon")]),
            "`10 s`",
        ),
        (
            abfs,
            map(&[("fs.azure.account.key", "not Base64!")]),
            "is not Base64",
        ),
        (
            abfs,
            map(&[("fs.azure.account.oauth2.client.id", "x")]),
            "needs all of",
        ),
        (
            abfs,
            map(&[("fs.azure.endpoint", "http://a:verysecret@b")]),
            "credentials",
        ),
        (
            abfs,
            map(&[("fs.azure.endpoint", "http://127.0.0.1:1/me")]),
            "needs a key",
        ),
        ("abfss://data/x", map(&[]), "needs an account"),
    ] {
        let error = open_with_environment(uri, &settings, &BTreeMap::new()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.message.contains(says), "{error}");
        assert!(!format!("{error:?}").contains("verysecret"), "{error:?}");
    }
    let hdfs = open_with_environment("hdfs://namenode:8020/a", &map(&[]), &map(&[]));
    if cfg!(feature = "hdfs") {
        assert_eq!(hdfs.unwrap().1.as_ref(), "a");
    } else {
        assert!(hdfs.unwrap_err().message.contains("--features hdfs"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_answers_is_found_out_soon() {
    // Connections to the near end of a connection are refused, and as long as it is open nobody else can listen there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let endpoint = format!("http://{}", taken.local_addr().unwrap());
    let given = map(&[
        ("s3.endpoint", &*endpoint),
        ("s3.access-key", "a"),
        ("s3.secret-key", "b"),
        ("s3.retry.timeout", "200 ms"),
    ]);
    let (objects, _) = open_with_environment("s3://bucket", &given, &BTreeMap::new()).unwrap();
    let error = objects.head(&"a".into()).await.unwrap_err();
    // That much patience was asked for. How long it takes is up to the machine, and on a slow one there is no second try to tell of.
    let said = error.to_string();
    let tried_once = !said.contains("retry_timeout");
    assert!(
        tried_once || said.contains("retry_timeout: 200ms"),
        "{said}"
    );
    assert_eq!(
        request_error("read", &"a".into(), error).kind,
        ErrorKind::Retry
    );
}
