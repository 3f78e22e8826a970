//! S3 servers on loopback for tests.
//!
//! `AQUIFER_TEST_S3_ENDPOINT` names a server that runs already; otherwise moto is started (`atomic_moto.py`) from the environment that
//! `scripts/prepare-test-servers` makes below the target directory. Without either the tests are skipped with a note, and fail where `CI=true`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::wait_ms;

/// A moto server with one bucket; it ends with the value.
pub struct Moto {
    endpoint: String,
    process: Option<Child>,
}

impl Moto {
    /// A server, or `None` when there is none to be had and that may be so.
    pub fn start() -> Option<Self> {
        let server = match std::env::var("AQUIFER_TEST_S3_ENDPOINT") {
            Ok(endpoint) => Self {
                endpoint,
                process: None,
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
                let port = free_port();
                let mut command = Command::new(program);
                let script =
                    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/atomic_moto.py");
                command.arg(script).args(["127.0.0.1", &port.to_string()]);
                Self {
                    endpoint: format!("http://127.0.0.1:{port}"),
                    process: Some(spawn(command)),
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

impl Drop for Moto {
    fn drop(&mut self) {
        stop(self.process.take());
    }
}

/// A proxy that forgets the `If-None-Match` header, so that the server behind it behaves like those that ignore create-if-absent.
pub struct Forgetful {
    endpoint: String,
    process: Option<Child>,
}

impl Forgetful {
    pub fn before(server: &Moto) -> Self {
        let port = free_port();
        let mut command = Command::new("python3");
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/forgetful_proxy.py");
        command
            .arg(script)
            .arg(port.to_string())
            .arg(server.endpoint());
        let proxy = Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            process: Some(spawn(command)),
        };
        let address = format!("127.0.0.1:{port}");
        ask(
            &address,
            &format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
        );
        proxy
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Forgetful {
    fn drop(&mut self) {
        stop(self.process.take());
    }
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

fn spawn(mut command: Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
}

fn stop(process: Option<Child>) {
    if let Some(mut process) = process {
        let _ = process.kill();
        let _ = process.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("its address").port()
}

/// Sends a request as soon as somebody listens, and returns the whole answer.
fn ask(address: &str, request: &str) -> String {
    const TRIES: usize = 300;
    for _ in 0..TRIES {
        if let Ok(mut stream) = TcpStream::connect(address) {
            let mut answer = String::new();
            stream
                .write_all(request.as_bytes())
                .expect("the request is taken");
            stream.read_to_string(&mut answer).expect("an answer");
            return answer;
        }
        wait_ms(100);
    }
    panic!("nobody listens on {address}");
}
