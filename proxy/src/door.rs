//! A small client of the operator door, for the commands that speak to a running gate.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::config::Config;

/// Where the operator door is and with which token.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    token: zeroize::Zeroizing<String>,
}

// === impl Door ===

impl Door {
    /// The door of the gate with this configuration; the token comes from `WRIT_TOKEN` or from the home.
    ///
    /// # Errors
    /// When there is no token.
    pub fn of(config: &Config) -> Result<Door> {
        let file = config.home.operator_token();
        let token = match std::env::var("WRIT_TOKEN") {
            Ok(token) => token,
            Err(_) => std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read `{}`; set WRIT_TOKEN to your operator token", file.display()))?,
        };
        Ok(Door::at(config.operator, token.trim()))
    }

    /// A door at an address.
    pub fn at(address: SocketAddr, token: &str) -> Door {
        Door { address, token: zeroize::Zeroizing::new(token.to_owned()) }
    }

    /// Asks, and reads the answer as JSON.
    ///
    /// # Errors
    /// When the gate is not there, or answers with a fault; its own words then.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let bytes = self.fetch(method, path, body).await?;
        serde_json::from_slice(&bytes).context("the operator door gave an answer that is not JSON")
    }

    /// Asks, and returns the answer as it is.
    ///
    /// # Errors
    /// As [`Door::ask`].
    pub async fn fetch(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes> {
        Ok(self.send(method, path, body).await?.collect().await?.to_bytes())
    }

    /// Asks for something large and writes it as it comes.
    ///
    /// # Errors
    /// As [`Door::ask`], and when it cannot be written or breaks off; what was written is then a part of it.
    pub async fn download(&self, path: &str, out: &mut impl Write) -> Result<()> {
        let mut body = self.send(Method::GET, path, None).await?;
        while let Some(frame) = body.frame().await {
            if let Ok(piece) = frame?.into_data() {
                out.write_all(&piece)?;
            }
        }
        Ok(())
    }

    /// Asks, and reads the answer as JSON whether or not it is a fault; says whether it is none.
    ///
    /// # Errors
    /// When the gate is not there.
    pub async fn look(&self, path: &str) -> Result<(Value, bool)> {
        let response = self.answer(Method::GET, path, None).await?;
        let is_well = response.status().is_success();
        let bytes = response.into_body().collect().await?.to_bytes();
        let found = serde_json::from_slice(&bytes).context("the operator door gave an answer that is not JSON")?;
        Ok((found, is_well))
    }

    /// The body of an answer that is no fault.
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Incoming> {
        let response = self.answer(method, path, body).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let bytes = response.into_body().collect().await?.to_bytes();
        let words = serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|fault| fault.get("error")?.as_str().map(str::to_owned));
        bail!("{}", words.unwrap_or_else(|| format!("the operator door answered {status}")))
    }

    async fn answer(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response<Incoming>> {
        let stream = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("no gate answers at {}; start it with `writ up`", self.address))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.as_str()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(text)))?;
        Ok(sender.send_request(request).await?)
    }
}
