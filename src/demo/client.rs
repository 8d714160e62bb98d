//! A blocking HTTP client with one keep-alive connection, without pipelining.
//!
//! The buyers run on the same cores as the server that they measure, and a general HTTP client
//! would cost several times as much CPU. This one supports only bodies with a Content-Length.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The timeout of each socket operation: far above what a busy machine needs, and short enough for
/// a person who waits.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The maximum length of a response. A page of a list has at most some 20 KiB.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

const HEADERS_MAX: usize = 32;

/// Why there is no response. It is unknown whether the request was carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the server closed the connection without a response")]
    Closed,
    #[error("malformed response: {0}")]
    Malformed(&'static str),
}

impl From<httparse::Error> for ClientError {
    fn from(_: httparse::Error) -> ClientError {
        ClientError::Malformed("the head is invalid")
    }
}

/// A request to send.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub token: Option<&'a str>,
    /// A JSON body.
    pub body: Option<&'a str>,
    /// The value of `Idempotency-Key`.
    pub key: Option<&'a str>,
}

impl<'a> Request<'a> {
    pub(super) fn get(path: &'a str, token: Option<&'a str>) -> Request<'a> {
        Request { method: "GET", path, token, body: None, key: None }
    }

    pub(super) fn post(path: &'a str, token: Option<&'a str>, body: &'a str) -> Request<'a> {
        Request { method: "POST", path, token, body: Some(body), key: None }
    }
}

pub(super) struct Response<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

pub(super) struct Client {
    stream: TcpStream,
    address: SocketAddr,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Result<Client, ClientError> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_MAX).map_err(ClientError::Connect)?;
        stream.set_nodelay(true).map_err(ClientError::Connect)?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(ClientError::Connect)?;
        stream.set_write_timeout(Some(ANSWER_MAX)).map_err(ClientError::Connect)?;
        Ok(Client { stream, address, request: Vec::new(), response: vec![0; 4096] })
    }

    pub(super) fn send(&mut self, request: &Request<'_>) -> Result<Response<'_>, ClientError> {
        self.write(request)?;
        let mut filled = 0;
        let head = loop {
            filled += self.read(filled)?;
            if let Some(head) = Head::parse(&self.response[..filled])? {
                break head;
            }
        };
        let end = head.length.saturating_add(head.body_length);
        if end > RESPONSE_BYTES_MAX {
            return Err(ClientError::Malformed("it is too long"));
        }
        while filled < end {
            filled += self.read(filled)?;
        }
        if filled > end {
            return Err(ClientError::Malformed("bytes follow its body"));
        }
        Ok(Response { status: head.status, body: &self.response[head.length..end] })
    }

    fn write(&mut self, request: &Request<'_>) -> Result<(), ClientError> {
        let Request { method, path, token, body, key } = *request;
        let bytes = &mut self.request;
        bytes.clear();
        write!(bytes, "{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address)?;
        if let Some(token) = token {
            write!(bytes, "Authorization: Bearer {token}\r\n")?;
        }
        if let Some(key) = key {
            write!(bytes, "Idempotency-Key: {key}\r\n")?;
        }
        if let Some(body) = body {
            write!(bytes, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())?;
        }
        write!(bytes, "\r\n{}", body.unwrap_or_default())?;
        Ok(self.stream.write_all(&self.request)?)
    }

    /// Reads at least one byte and returns the number of bytes read.
    fn read(&mut self, filled: usize) -> Result<usize, ClientError> {
        if filled == self.response.len() {
            if filled >= RESPONSE_BYTES_MAX {
                return Err(ClientError::Malformed("it is too long"));
            }
            self.response.resize(2 * filled, 0);
        }
        loop {
            match self.stream.read(&mut self.response[filled..]) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => return Ok(count),
                // A signal. The kernel does not restart a read with a timeout (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

struct Head {
    status: u16,
    length: usize,
    body_length: usize,
}

impl Head {
    /// Parses the head; returns `None` while it is incomplete.
    fn parse(bytes: &[u8]) -> Result<Option<Head>, ClientError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(bytes)? else { return Ok(None) };
        let status = response.code.ok_or(ClientError::Malformed("it has no status"))?;
        let header =
            |name: &str| response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        if header("transfer-encoding").is_some() {
            return Err(ClientError::Malformed("the body has no Content-Length"));
        }
        let body_length = match header("content-length") {
            _ if matches!(status, 204 | 304) => 0,
            None => return Err(ClientError::Malformed("the body has no Content-Length")),
            Some(header) => {
                let value = std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok());
                value.ok_or(ClientError::Malformed("the Content-Length is not a number"))?
            }
        };
        Ok(Some(Head { status, length, body_length }))
    }
}
