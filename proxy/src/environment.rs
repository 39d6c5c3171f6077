//! What an agent's environment has to say so that its programs use the gate and trust it: proxy variables in both cases,
//! one bundle of roots under every name that a client reads, and what Java and Node want besides.
//!
//! Variables make programs use the gate; they do not keep anyone from going around it.

use std::path::{Path, PathBuf};

use crate::setup;

/// The files a client trusts: the public roots and the gate's own, in each form that some client wants.
#[derive(Clone, Debug)]
pub struct Trusted {
    dir: PathBuf,
}

/// In which language variables are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// Bourne shells.
    Bash,
    /// A file for `docker run --env-file`; the roots are expected in /etc/writ.
    Docker,
    /// A `.env` file.
    Dotenv,
    /// Fish.
    Fish,
    /// PowerShell.
    Powershell,
}

// === impl Trusted ===

impl Trusted {
    /// The files in a folder, whether or not they are there yet.
    pub fn at(dir: &Path) -> Trusted {
        Trusted { dir: dir.to_owned() }
    }

    /// PEM.
    pub fn bundle(&self) -> PathBuf {
        self.dir.join("ca-bundle.pem")
    }

    /// PKCS #12, for Java.
    pub fn keystore(&self) -> PathBuf {
        self.dir.join("ca-bundle.p12")
    }

    /// wget reads no variable but the name of its settings.
    pub fn wget(&self) -> PathBuf {
        self.dir.join("wgetrc")
    }
}

// === impl Shell ===

impl Shell {
    /// The variables as this shell sets them.
    pub fn write(self, variables: &[(&str, String)]) -> String {
        variables.iter().map(|(name, value)| self.line(name, value) + "\n").collect()
    }

    fn line(self, name: &str, value: &str) -> String {
        match self {
            Shell::Bash => format!("export {name}='{}'", value.replace('\'', "'\\''")),
            Shell::Docker => format!("{name}={value}"),
            Shell::Dotenv => {
                format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$"))
            }
            Shell::Fish => format!("set -gx {name} '{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
            Shell::Powershell => format!("$env:{name} = '{}'", value.replace('\'', "''")),
        }
    }
}

/// All variables for an agent with this token that reaches the gate at `door`, `host:port`.
pub fn variables(agent: &str, token: &str, door: &str, trusted: &Trusted) -> Vec<(&'static str, String)> {
    let proxy = setup::proxy_url(agent, token, door);
    let bundle = trusted.bundle().display().to_string();
    let mut variables: Vec<(&'static str, String)> = Vec::new();
    variables.extend(PROXY.iter().map(|name| (*name, proxy.clone())));
    variables.extend(NO_PROXY.iter().map(|name| (*name, LOOPBACK.to_owned())));
    variables.extend(BUNDLE.iter().map(|name| (*name, bundle.clone())));
    // Node reads the proxy variables from 22.21 and 24 on, and only then.
    variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    variables.push(("WGETRC", trusted.wget().display().to_string()));
    variables.push(("JAVA_TOOL_OPTIONS", java(door, &trusted.keystore())));
    variables
}

/// Java reads no variable but this one. It sends the proxy's credential only through an `Authenticator` of the program.
fn java(door: &str, keystore: &Path) -> String {
    let (host, port) = door.rsplit_once(':').unwrap_or((door, "4001"));
    [
        format!("-Dhttp.proxyHost={host} -Dhttp.proxyPort={port} -Dhttps.proxyHost={host} -Dhttps.proxyPort={port}"),
        "-Dhttp.nonProxyHosts=localhost|127.*|[::1] -Djdk.http.auth.tunneling.disabledSchemes=".to_owned(),
        format!("-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStoreType=PKCS12", keystore.display()),
    ]
    .join(" ")
}

/// curl reads `http_proxy` in lower case only, others in upper case only.
const PROXY: &[&str] = &["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

const NO_PROXY: &[&str] = &["NO_PROXY", "no_proxy"];

/// What a program serves to itself.
const LOOPBACK: &str = "localhost,127.0.0.1,::1";

/// Under which names clients look for a PEM file of roots.
const BUNDLE: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "HTTPLIB2_CA_CERTS",
    "npm_config_cafile",
    "DENO_CERT",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_each_shell_reads_them() {
        let variables = [("A", "it's $1 \\ \"x\"".to_owned())];
        for (shell, line) in [
            (Shell::Bash, "export A='it'\\''s $1 \\ \"x\"'\n"),
            (Shell::Docker, "A=it's $1 \\ \"x\"\n"),
            (Shell::Dotenv, "A=\"it's \\$1 \\\\ \\\"x\\\"\"\n"),
            (Shell::Fish, "set -gx A 'it\\'s $1 \\\\ \"x\"'\n"),
            (Shell::Powershell, "$env:A = 'it''s $1 \\ \"x\"'\n"),
        ] {
            assert_eq!(shell.write(&variables), line, "{shell:?}");
        }
    }
}
