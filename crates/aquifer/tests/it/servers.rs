//! S3 servers on loopback for tests.
//!
//! `AQUIFER_TEST_S3_ENDPOINT` names a server that runs already; otherwise moto is started (`atomic_moto.py`) from the environment that
//! `scripts/prepare-test-servers` makes below the target directory. Without either the tests are skipped with a note, and fail where `CI=true`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A moto server with one bucket; it ends with the value.
pub struct Moto {
    endpoint: String,
    /// Ends with the value. `None`: it was there before us.
    _process: Option<Served>,
}

impl Moto {
    /// A server, or `None` when there is none to be had and that may be so.
    pub fn start() -> Option<Self> {
        let server = match std::env::var("AQUIFER_TEST_S3_ENDPOINT") {
            Ok(endpoint) => Self {
                endpoint,
                _process: None,
            },
            Err(_) => {
                let program = environment().join("bin/python");
                if !program.exists() {
                    let message = format!(
                        "{} is missing; run scripts/prepare-test-servers",
                        program.display()
                    );
                    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
                    eprintln!("skipped: {message}");
                    return None;
                }
                let mut command = Command::new(program);
                command.arg(script("atomic_moto.py"));
                let process = Served::start(command);
                Self {
                    endpoint: process.endpoint.clone(),
                    _process: Some(process),
                }
            }
        };
        let address = server.endpoint.trim_start_matches("http://").to_owned();
        let answer = ask(
            &address,
            &format!(
                "PUT /{} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                server.bucket()
            ),
        );
        assert!(
            answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 409"),
            "no bucket: {answer}"
        );
        Some(server)
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn bucket(&self) -> &'static str {
        "aquifer-tests"
    }
}

/// A proxy that forgets the `If-None-Match` header, so that the server behind it behaves like those that ignore create-if-absent.
pub struct Forgetful(Served);

impl Forgetful {
    pub fn before(server: &Moto) -> Self {
        let mut command = Command::new("python3");
        command
            .arg(script("forgetful_proxy.py"))
            .arg(server.endpoint());
        Self(Served::start(command))
    }

    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }
}

/// A server that we have started; it ends with the value.
struct Served {
    process: Child,
    endpoint: String,
}

impl Served {
    /// Starts a server. It chooses its port itself, so that nobody else can take it, and prints it when it listens.
    fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let mut said = String::new();
        let mut out = BufReader::new(process.stdout.take().expect("its output"));
        out.read_line(&mut said).expect("its port");
        let mut served = Self {
            process,
            endpoint: String::new(),
        };
        let port: u16 = said
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{command:?} did not say its port: `{said}`"));
        served.endpoint = format!("http://127.0.0.1:{port}");
        served
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it")
        .join(name)
}

/// The Python environment: below the directory in which the binary was built.
fn environment() -> PathBuf {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_aquifer"));
    let target = binary
        .ancestors()
        .nth(2)
        .expect("the binary lies in <target>/<profile>");
    target.join("ci/venv")
}

/// Sends a request and returns the whole answer.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address)
        .unwrap_or_else(|error| panic!("nobody listens on {address}: {error}"));
    let mut answer = String::new();
    stream
        .write_all(request.as_bytes())
        .expect("the request is taken");
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
