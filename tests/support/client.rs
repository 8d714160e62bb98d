//! Clients: one on a general HTTP library, and one that sends and reads raw bytes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use ureq::http::{Method, Request};

use super::check_sums;

/// The timeout of a request, ten times what one takes on an idle machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// A response of any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body is text")
    }

    pub(crate) fn json(&self) -> Value {
        assert!(self.body.ends_with(b"\n"), "no newline ends {}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the sums of each event in the answer: the clients do this with every answer of every test.
    fn check_events(&self) {
        let has_remaining = || self.body.windows(11).any(|text| text == b"\"remaining\"");
        if self.status >= 300 || self.header("content-type") != Some("application/json") || !has_remaining() {
            return;
        }
        let body = self.json();
        let items = body["items"].as_array().map_or(std::slice::from_ref(&body), Vec::as_slice);
        items.iter().filter(|item| item["remaining"].is_number()).for_each(check_sums);
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{:?} {}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }

    /// Checks that the response is the given problem, without comparing its detail, and returns
    /// its body.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, slug: &str) -> Value {
        let answer = self.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let body = answer.json();
        assert_eq!(body["type"], format!("/problems/{slug}"), "{body}");
        assert_eq!(body["status"], status, "{body}");
        for member in ["title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "no {member}: {body}");
        }
        body
    }
}

/// Sends requests with the token of one account, or without a token.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    address: SocketAddr,
    pub(crate) token: Option<String>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(DEADLINE))
            .max_redirects(0)
            .build();
        Client { agent: config.into(), address, token: None }
    }

    pub(crate) fn with_token(&self, token: &str) -> Client {
        Client { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same account at another server.
    pub(crate) fn at(&self, address: SocketAddr) -> Client {
        Client { address, ..self.clone() }
    }

    /// Logs in and returns a client for the account.
    #[track_caller]
    pub(crate) fn log_in(&self, username: &str, password: &str) -> Client {
        let body = json!({ "username": username, "password": password });
        let session = self.post("/api/v1/sessions", &body).expect(201).json();
        self.with_token(session["token"].as_str().expect("a session has a token"))
    }

    /// Creates an account, logs in, and returns a client for it.
    #[track_caller]
    pub(crate) fn sign_up(&self, username: &str, role: &str) -> Client {
        let body = json!({ "username": username, "password": super::PASSWORD, "role": role });
        self.post("/api/v1/users", &body).expect(201);
        self.log_in(username, super::PASSWORD)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], &body.to_string())
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &[], &body.to_string())
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[], &body.to_string())
    }

    /// Sends any request, with `headers` in addition to Authorization. An empty body means no body.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let result = self.try_send(method, path, headers, body);
        result.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Like `get`, but returns an error if the server ends before it answers.
    pub(crate) fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        self.try_send("GET", path, &[], "")
    }

    /// Like `post`, but returns an error if the server ends before it answers.
    pub(crate) fn try_post(&self, path: &str, body: &Value) -> Result<Answer, ureq::Error> {
        self.try_send("POST", path, &[], &body.to_string())
    }

    fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, ureq::Error> {
        let uri = format!("http://{}{path}", self.address);
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let result = if body.is_empty() {
            self.agent.run(request.body(()).expect("a valid request"))
        } else {
            self.agent.run(request.body(body.to_owned()).expect("a valid request"))
        };
        let mut response = result?;
        let headers = response.headers().iter().map(|(name, value)| {
            (name.as_str().to_owned(), value.to_str().expect("headers are text").to_owned())
        });
        let (status, headers) = (response.status().as_u16(), headers.collect());
        let answer = Answer { status, headers, body: response.body_mut().read_to_vec()? };
        answer.check_events();
        Ok(answer)
    }
}

/// A connection that sends raw bytes and reads responses one by one.
pub(crate) struct Wire {
    stream: TcpStream,
    /// Bytes received but not yet returned as part of a response.
    input: Vec<u8>,
}

impl Wire {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Wire> {
        Wire::over(TcpStream::connect(address)?)
    }

    /// Opens a connection from an address of this machine, such as 127.0.0.2.
    #[track_caller]
    pub(crate) fn open_from(address: SocketAddr, from: IpAddr) -> Wire {
        let open = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect(&address.into())?;
            Wire::over(socket.into())
        };
        open().unwrap_or_else(|error| panic!("connect from {from}: {error}"))
    }

    /// Opens a connection for which the kernel buffers little, for clients that do not read.
    pub(crate) fn with_small_receive_buffer(address: SocketAddr) -> io::Result<Wire> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect(&address.into())?;
        Wire::over(socket.into())
    }

    /// Opens a connection from an address of this machine: all of 127.0.0.0/8 are.
    pub(crate) fn from(source: IpAddr, address: SocketAddr) -> io::Result<Wire> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect(&address.into())?;
        Wire::over(socket.into())
    }

    fn over(stream: TcpStream) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Wire { stream, input: Vec::new() })
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Closes the sending side.
    pub(crate) fn end_sending(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Reads the next response, which may be an interim one. Returns `None` if the server has closed
    /// the connection instead.
    pub(crate) fn answer(&mut self) -> io::Result<Option<Answer>> {
        self.read_answer(true)
    }

    /// Reads the response to a HEAD request, whose Content-Length is that of an omitted body.
    pub(crate) fn answer_without_body(&mut self) -> io::Result<Option<Answer>> {
        self.read_answer(false)
    }

    /// Sends a request and reads its response; panics if there is none.
    #[track_caller]
    pub(crate) fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Answer {
        self.send(bytes).expect("the server reads");
        self.next()
    }

    #[track_caller]
    pub(crate) fn next(&mut self) -> Answer {
        self.answer().expect("read a response").expect("the server closed the connection without a response")
    }

    /// Checks that the server has closed its side without a further response.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let more = self.answer().expect("the connection is closed without an error");
        assert!(more.is_none(), "an unexpected response: {more:?}");
    }

    fn read_answer(&mut self, with_body: bool) -> io::Result<Option<Answer>> {
        let head_end = loop {
            if let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if !self.read_more()? {
                if self.input.is_empty() {
                    return Ok(None);
                }
                return Err(broken("the connection ended within a head", &self.input));
            }
        };
        let head = String::from_utf8(self.input[..head_end].to_vec());
        let head = head.map_err(|_| broken("a head is not text", &self.input))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let status: u16 = status.ok_or_else(|| broken("no status line", &self.input))?;
        let headers: Option<Vec<_>> = lines
            .map(|line| {
                line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            })
            .collect();
        let headers = headers.ok_or_else(|| broken("a line is not a field", &self.input))?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        let has_body = with_body && status >= 200 && status != 204 && status != 304;
        let length = match answer.header("content-length") {
            Some(length) => length.parse().map_err(|_| broken("the length is not a number", &self.input))?,
            None if has_body => return Err(broken("a response without a length", &self.input)),
            None => 0,
        };
        let length = if has_body { length } else { 0 };
        while self.input.len() < head_end + 4 + length {
            if !self.read_more()? {
                return Err(broken("the connection ended within a body", &self.input));
            }
        }
        answer.body = self.input[head_end + 4..head_end + 4 + length].to_vec();
        self.input.drain(..head_end + 4 + length);
        answer.check_events();
        Ok(Some(answer))
    }

    /// Reads until the server closes the connection, and returns all that was not read.
    pub(crate) fn read_to_end(&mut self) -> String {
        while self.read_more().expect("the connection ends without an error") {}
        String::from_utf8_lossy(&std::mem::take(&mut self.input)).into_owned()
    }

    /// Reads until what came has `end` in it. Returns what came, which is no more read as an answer.
    pub(crate) fn read_until(&mut self, end: &str) -> io::Result<String> {
        loop {
            let text = String::from_utf8_lossy(&self.input);
            if text.contains(end) {
                let text = text.into_owned();
                self.input.clear();
                return Ok(text);
            }
            if !self.read_more()? {
                return Err(broken("the connection ended early", &self.input));
            }
        }
    }

    /// Reads more bytes; returns false at the end of the stream.
    fn read_more(&mut self) -> io::Result<bool> {
        let mut part = [0; 16 * 1024];
        let count = self.stream.read(&mut part)?;
        self.input.extend_from_slice(&part[..count]);
        Ok(count > 0)
    }
}

fn broken(what: &str, input: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {:?}", String::from_utf8_lossy(input)))
}

/// Formats a request. `headers` are complete lines, each with its CRLF.
pub(crate) fn request(method: &str, path: &str, token: Option<&str>, headers: &str, body: &str) -> String {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{authorization}{headers}{length}\r\n{body}")
}
