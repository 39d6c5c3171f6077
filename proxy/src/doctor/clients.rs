//! Real clients through a real gate: which of those on this machine go through it, and which trust it.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;

use super::{Finding, Verdict};
use crate::ahead::Ahead;
use crate::config::Config;
use crate::drain;
use crate::environment::{self, Trusted};
use crate::home::Home;
use crate::id;
use crate::principal::write_private;
use crate::setup::{self, FIRST_AGENT};
use crate::up::{self, Running};
use crate::withheld::Withheld;

/// One client: how to see whether it is there, how to have it ask for a URL, and what would make it use the gate.
struct Client {
    name: &'static str,
    probe: &'static [&'static str],
    /// `URL` and `DIR` stand for what they say.
    ask: &'static [&'static str],
    fix: &'static str,
}

/// A gate and a server of the doctor's own, gone with it.
struct Trial {
    folder: PathBuf,
    running: Running,
    /// Hosts that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

/// Tries every client there is.
///
/// # Errors
/// When the trial cannot be set up.
pub(super) async fn examine() -> Result<Vec<Finding>> {
    let folder = std::env::temp_dir().join(id::fresh("writ-doctor-")?);
    let findings = examine_in(&folder).await;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
    findings
}

async fn examine_in(folder: &Path) -> Result<Vec<Finding>> {
    let trial = Trial::begin(folder).await?;
    let findings = trial.all().await;
    drain::shut_down(trial.running.gate, std::future::pending()).await;
    Ok(findings)
}

// === impl Trial ===

impl Trial {
    async fn begin(folder: &Path) -> Result<Trial> {
        let home = Home::locate(Some(&folder.join("home")))?;
        setup::create(&home)?;
        let asked = Arc::default();
        let port = serve(&folder.join("upstream"), Arc::clone(&asked)).await?;
        for file in home.policy_files()? {
            fs::remove_file(file)?;
        }
        let names: String =
            CLIENTS.iter().map(|client| format!("'{}:443': '127.0.0.1:{port}', ", host(client))).collect();
        let config = format!(
            "doors: {{ forward: '127.0.0.1:0', operator: '127.0.0.1:0' }}\nupstream: {{ connect_to: {{ {names} }} }}\n"
        );
        let roots = folder.join("upstream").join("root.pem");
        let destinations = DESTINATIONS.replace("ROOTS", &roots.display().to_string());
        write_private(&home.config(), config.as_bytes())?;
        write_private(&home.destinations(), destinations.as_bytes())?;
        write_private(&home.credentials(), b"credentials: {}\n")?;
        write_private(&home.policies().join("doctor.yaml"), POLICY.as_bytes())?;
        let running = up::start(Config::load(home)?).await?;
        fs::write(folder.join("Doctor.java"), JAVA)?;
        Ok(Trial { folder: folder.to_owned(), running, asked })
    }

    /// One after the other: a machine that is busy with one must not be taken for one that fails another.
    async fn all(&self) -> Vec<Finding> {
        let mut findings = vec![self.confined().await];
        for client in CLIENTS {
            if self.is_there(client).await {
                findings.push(self.judge(client).await);
            }
        }
        findings
    }

    async fn is_there(&self, client: &Client) -> bool {
        let Some(mut probe) = self.command(client.probe, client) else { return false };
        let probe = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
        matches!(tokio::time::timeout(PROBE, probe).await, Ok(Ok(status)) if status.success())
    }

    async fn judge(&self, client: &Client) -> Finding {
        let check = format!("client {}", client.name);
        let output = match self.command(client.ask, client) {
            Some(mut command) => tokio::time::timeout(ASK, command.output()).await,
            None => return Finding::other(&check, Verdict::Doubt, "it could not be started", ""),
        };
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).contains(&host(client));
        if asked {
            return Finding::good(&check, "goes through the gate and trusts it");
        }
        let said = output.ok().and_then(Result::ok).map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        let said = said.unwrap_or_default().lines().last().unwrap_or_default().to_owned();
        // A leaf is made when a tunnel is opened: it came that far.
        let tunnelled = ca::Name::dns(&host(client)).is_ok_and(|name| self.running.gate.issuer.has(&name));
        let words =
            if tunnelled { "reaches the gate and does not trust its certificates" } else { "ignores the proxy" };
        Finding::other(&check, Verdict::Doubt, format!("{words}: {said}"), client.fix)
    }

    /// Whether `writ run` gets namespaces here.
    async fn confined(&self) -> Finding {
        let words = ["run", "--isolation", "required", "--", "true"];
        let Ok(own) = std::env::current_exe() else {
            return Finding::other("isolation", Verdict::Doubt, "unknown", "");
        };
        let mut command = Command::new(own);
        command.args(words).env("WRIT_HOME", self.running.gate.config.home.path()).env_remove("WRIT_TOKEN");
        command.env("WRIT_DOORS_FORWARD", self.running.forward.to_string());
        command.env("WRIT_DOORS_OPERATOR", self.running.operator.to_string()).kill_on_drop(true);
        match tokio::time::timeout(ASK, command.output()).await {
            Ok(Ok(ended)) if ended.status.success() => {
                Finding::good("isolation", "programs of `writ run` have no way out but the gate")
            }
            Ok(Ok(ended)) => {
                let fix = "programs of `writ run` can go around the gate here; deny them other ways out in the network";
                Finding::other("isolation", Verdict::Doubt, String::from_utf8_lossy(&ended.stderr).trim(), fix)
            }
            Ok(Err(_)) | Err(_) => Finding::other("isolation", Verdict::Doubt, "it could not be tried", ""),
        }
    }

    /// A client with the variables of `writ env` and none of this process's secrets.
    fn command(&self, words: &[&str], client: &Client) -> Option<Command> {
        let gate = &self.running.gate;
        let (home, url) = (&gate.config.home, format!("https://{}", host(client)));
        let token = fs::read_to_string(home.agent_token(FIRST_AGENT)).ok()?;
        let (program, arguments) = words.split_first()?;
        let mut command = Command::new(program);
        let dir = self.folder.display().to_string();
        command.args(arguments.iter().map(|word| word.replace("URL", &url).replace("DIR", &dir)));
        let door = self.running.forward.to_string();
        command.env_clear().envs(Withheld::of(&gate.config).ok()?.environment(std::env::vars()));
        command.envs(environment::variables(FIRST_AGENT, token.trim(), &door, &Trusted::at(home.path())));
        command.stdin(Stdio::null()).current_dir(&self.folder).kill_on_drop(true);
        Some(command)
    }
}

fn host(client: &Client) -> String {
    format!("{}.doctor.example", client.name)
}

/// A server for every name, which notes the names it was asked for.
async fn serve(ca: &Path, asked: Arc<Mutex<Vec<String>>>) -> Result<u16> {
    let issuer = Arc::new(ca::Issuer::new(ca::Root::create(ca, "Doctor's server")?, 64));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(Arc::clone(&issuer), stream, Arc::clone(&asked)));
        }
    });
    Ok(port)
}

async fn answer(issuer: Arc<ca::Issuer>, stream: TcpStream, asked: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), Ahead::new(stream, BytesMut::new())).await.ok()?;
    let name = start.client_hello().server_name()?.to_owned();
    let mut config = issuer.server_config(&ca::Name::dns(&name).ok()?).ok()?.as_ref().clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = start.into_stream(Arc::new(config)).await.ok()?;
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    let service =
        service_fn(async |_: Request<Incoming>| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("{}\n")))));
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok()
}

/// Everything under one name is allowed; nothing else is.
const DESTINATIONS: &str = "destinations:
  - key: doctor
    match: { host: '*.doctor.example', path: /** }
    effect: read
    policy: doctor
    roots: 'ROOTS'
";

const POLICY: &str = "destinations: [doctor]\nrequire_approval: never\n";

/// Java takes the proxy's host and port from its options, and the credential from the program only.
const JAVA: &str = r#"import java.net.*;
public class Doctor {
    public static void main(String[] arguments) throws Exception {
        String[] user = URI.create(System.getenv("HTTPS_PROXY")).getUserInfo().split(":");
        Authenticator.setDefault(new Authenticator() {
            protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication(user[0], user[1].toCharArray());
            }
        });
        ((HttpURLConnection) new URL(arguments[0]).openConnection()).getResponseCode();
    }
}
"#;

/// For a client to say that it is there.
const PROBE: Duration = Duration::from_secs(20);

/// For a client to ask.
const ASK: Duration = Duration::from_secs(30);

const CLIENTS: &[Client] = &[
    Client {
        name: "curl",
        probe: &["curl", "--version"],
        ask: &["curl", "--silent", "--show-error", "--max-time", "20", "URL"],
        fix: "set https_proxy and CURL_CA_BUNDLE",
    },
    Client {
        name: "git",
        probe: &["git", "--version"],
        ask: &["git", "ls-remote", "URL/x.git"],
        fix: "unset http.proxy and http.sslCAInfo in git's own configuration; set HTTPS_PROXY and GIT_SSL_CAINFO",
    },
    Client {
        name: "wget",
        probe: &["wget", "--version"],
        ask: &["wget", "--quiet", "--tries=1", "--timeout=20", "--output-document=-", "URL"],
        fix: "set https_proxy and WGETRC",
    },
    Client {
        name: "pip",
        probe: &["python3", "-m", "pip", "--version"],
        ask: &[
            "python3",
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-cache-dir",
            "--retries=0",
            "--dest=DIR",
            "--index-url=URL/simple",
            "doctor",
        ],
        fix: "set HTTPS_PROXY and PIP_CERT",
    },
    Client {
        name: "npm",
        probe: &["npm", "--version"],
        ask: &["npm", "view", "doctor", "--registry=URL/", "--fetch-retries=0"],
        fix: "set HTTPS_PROXY and npm_config_cafile; remove proxy settings from .npmrc",
    },
    Client {
        name: "node",
        probe: &["node", "--version"],
        ask: &[
            "node",
            "-e",
            "fetch('URL').catch((error) => { console.error(error.cause ?? error); process.exit(1); })",
        ],
        fix: "Node reads NODE_USE_ENV_PROXY from 22.21 and 24 on; before, give its client a ProxyAgent (undici), or use the reverse door",
    },
    Client {
        name: "cargo",
        probe: &["cargo", "--version"],
        ask: &["cargo", "search", "--index=sparse+URL/", "doctor"],
        fix: "set HTTPS_PROXY and CARGO_HTTP_CAINFO",
    },
    Client {
        name: "requests",
        probe: &["python3", "-c", "import requests"],
        ask: &["python3", "-c", "import requests; requests.get('URL', timeout=20)"],
        fix: "set HTTPS_PROXY and REQUESTS_CA_BUNDLE; a session with `trust_env = False` ignores both",
    },
    Client {
        name: "httpx",
        probe: &["python3", "-c", "import httpx"],
        ask: &["python3", "-c", "import httpx; httpx.get('URL', timeout=20)"],
        fix: "set HTTPS_PROXY and SSL_CERT_FILE",
    },
    Client {
        name: "aiohttp",
        probe: &["python3", "-c", "import aiohttp"],
        ask: &[
            "python3",
            "-c",
            "import asyncio, aiohttp\nasync def main():\n    async with aiohttp.ClientSession() as s:\n        await s.get('URL')\nasyncio.run(main())",
        ],
        fix: "make its session with `aiohttp.ClientSession(trust_env=True)`, or use the reverse door",
    },
    Client {
        name: "boto3",
        probe: &["python3", "-c", "import boto3"],
        ask: &[
            "python3",
            "-c",
            "import boto3; boto3.client('s3', endpoint_url='URL', region_name='x', aws_access_key_id='x', aws_secret_access_key='x').list_buckets()",
        ],
        fix: "set HTTPS_PROXY and AWS_CA_BUNDLE",
    },
    Client {
        name: "java",
        probe: &["javac", "--version"],
        ask: &["java", "DIR/Doctor.java", "URL"],
        fix: "set JAVA_TOOL_OPTIONS; the program has to give the proxy's user and password to an `Authenticator`, or use the reverse door",
    },
];
