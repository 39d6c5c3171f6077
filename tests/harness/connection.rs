//! One connection of an agent: bytes as a test wants them, and answers read without believing them.
//!
//! Everything blocks, and nothing longer than [`LIMIT`].

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use serde_json::Value;

/// A connection to the forward door, or through a tunnel of it.
pub(crate) struct Connection {
    stream: Stream,
    unread: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// An answer as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    /// Status code.
    pub(crate) status: u16,
    /// Names in lower case, in the order they came.
    pub(crate) headers: Vec<(String, String)>,
    /// The body without chunk framing, as far as it came.
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end as the head announced it.
    pub(crate) complete: bool,
    /// The 1xx answers before it.
    pub(crate) interim: Vec<u16>,
}

// === impl Connection ===

impl Connection {
    /// A connection on which nothing was said yet.
    pub(crate) fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Connection { stream: Stream::Plain(stream), unread: Vec::new() }
    }

    /// Speaks TLS on it from now on.
    pub(crate) fn with_tls(self, config: Arc<ClientConfig>, server_name: &str) -> io::Result<Connection> {
        self.with_tls_in_pieces(config, server_name, usize::MAX)
    }

    /// As [`Connection::with_tls`], the first message cut into pieces of this many bytes.
    pub(crate) fn with_tls_in_pieces(
        self,
        config: Arc<ClientConfig>,
        server_name: &str,
        piece: usize,
    ) -> io::Result<Connection> {
        let Stream::Plain(mut stream) = self.stream else { panic!("there is TLS on this connection already") };
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        let mut tls = ClientConnection::new(config, name).unwrap();
        let mut hello = Vec::new();
        tls.write_tls(&mut hello)?;
        hello.chunks(piece).try_for_each(|piece| stream.write_all(piece))?;
        let mut stream = StreamOwned::new(tls, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Connection { stream: Stream::Tls(Box::new(stream)), unread: Vec::new() })
    }

    /// Sends bytes as they are. A peer that has closed already is found out by reading.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.write(bytes));
    }

    /// Sends a head without a body and reads the answer.
    pub(crate) fn ask(&mut self, head: &str) -> Response {
        self.send(head.as_bytes());
        self.answer_to(head.split(' ').next().unwrap()).unwrap()
    }

    /// Reads one answer to a request with a body or none, not to HEAD.
    pub(crate) fn answer(&mut self) -> io::Result<Response> {
        self.answer_to("GET")
    }

    /// Reads one answer to a request with this method.
    pub(crate) fn answer_to(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.head()?;
        let whole = self.body(method, &mut response);
        response.complete = whole.is_ok();
        Ok(response)
    }

    /// Reads the head of one answer, and those of the 1xx before it.
    pub(crate) fn head(&mut self) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let text = self.through(b"\r\n\r\n")?;
            let mut response = Response::from_head(&String::from_utf8(text).map_err(io::Error::other)?);
            if response.status >= 200 {
                response.interim = interim;
                return Ok(response);
            }
            interim.push(response.status);
        }
    }

    /// Reads everything up to and including the first `end`.
    pub(crate) fn through(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(start) = self.unread.windows(end.len()).position(|window| window == end) {
                return self.exactly(start + end.len());
            }
            self.receive()?;
        }
    }

    /// Waits for the end of the connection. False when more bytes came, or none and no end in time.
    pub(crate) fn is_closed(&mut self) -> bool {
        if !self.unread.is_empty() {
            return false;
        }
        match self.receive() {
            Ok(()) => false,
            Err(error) => !is_timeout(&error),
        }
    }

    /// Everything until the end of the connection; fails when it does not end in time.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.receive() {
                Ok(()) => {}
                Err(error) if is_timeout(&error) => return Err(error),
                Err(_) => return Ok(std::mem::take(&mut self.unread)),
            }
        }
    }

    /// The certificate that was shown for the server inside a tunnel, in DER.
    pub(crate) fn leaf(&self) -> Vec<u8> {
        self.tls().peer_certificates().unwrap()[0].to_vec()
    }

    /// How TLS began on this connection.
    pub(crate) fn handshake(&self) -> HandshakeKind {
        self.tls().handshake_kind().unwrap()
    }

    /// What ALPN agreed on; empty for nothing.
    pub(crate) fn protocol(&self) -> String {
        String::from_utf8(self.tls().alpn_protocol().unwrap_or_default().to_vec()).unwrap()
    }

    /// The socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    fn tls(&self) -> &ClientConnection {
        let Stream::Tls(stream) = &self.stream else { panic!("there is no TLS on this connection") };
        &stream.conn
    }

    fn body(&mut self, method: &str, response: &mut Response) -> io::Result<()> {
        let tunnel = method == "CONNECT" && response.status == 200;
        if method == "HEAD" || tunnel || [204, 304].contains(&response.status) {
            return Ok(());
        }
        if response.header("transfer-encoding").is_some() {
            return self.chunks(&mut response.body);
        }
        match response.header("content-length").map(|length| length.parse::<usize>().map_err(io::Error::other)) {
            None => response.body = self.rest()?,
            Some(length) => {
                let length = length?;
                while self.unread.len() < length && self.receive().is_ok() {}
                let there = self.unread.len().min(length);
                response.body = self.exactly(there)?;
                if there < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Ok(())
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = String::from_utf8(self.through(b"\r\n")?).map_err(io::Error::other)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            body.extend(self.exactly(size)?);
            self.through(b"\r\n")?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// Reads this many bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < length {
            self.receive()?;
        }
        Ok(self.unread.drain(..length).collect())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut space = [0; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut space)?,
            Stream::Tls(stream) => stream.read(&mut space)?,
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend_from_slice(&space[..read]);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

// === impl Response ===

impl Response {
    /// The first header of this name, in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The text at a place in the JSON body.
    pub(crate) fn text_at(&self, pointer: &str) -> String {
        let document = self.json();
        document
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no {pointer}: {document}"))
            .to_owned()
    }

    /// The stable code of a refusal.
    pub(crate) fn code(&self) -> String {
        self.text_at("/code")
    }

    /// The correlation id that the gate gave the request.
    pub(crate) fn correlation(&self) -> String {
        self.header("writ-correlation-id").unwrap_or_else(|| panic!("no correlation id: {self:?}")).to_owned()
    }

    fn from_head(text: &str) -> Response {
        let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
        let status = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
        let split =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        Response {
            status: status.parse().unwrap_or(0),
            headers: lines.filter_map(split).collect(),
            ..Response::default()
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.kind() == io::ErrorKind::TimedOut
}

/// For one read or write.
const LIMIT: Duration = Duration::from_secs(30);
