//! TCP: listeners shared by all cores through the kernel, and streams with
//! owned buffers, which any runtime can serve.
#![allow(unsafe_code, reason = "the runtime takes listeners only as raw descriptors")]

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_lite::{AsyncRead, AsyncWrite, AsyncWriteExt};
use glommio::net::TcpStream;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections that the kernel holds for one core until it accepts them: a
/// noon rush of thousands within the few milliseconds that a batch may take.
const BACKLOG: i32 = 4096;

/// One socket for each of `count` cores, all on the same address; the kernel
/// spreads connections over them. Port 0 takes a free one for all.
///
/// # Errors
///
/// `AddrInUse` when anyone listens there, or another of this server's like is about to.
pub(crate) fn bind_all(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<BoundListener>)> {
    // In this order: who had the claim before us listens by now, and is seen.
    let mut claim = (address.port() != 0).then(|| Claim::take(address)).transpose()?;
    check_free(address)?;
    let mut address = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = new_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SockAddr::from(address))?;
        if address.port() == 0 {
            let bound = socket.local_addr()?.as_socket();
            address = bound.ok_or_else(|| io::Error::other("a TCP socket has an IP address"))?;
        }
        if claim.is_none() {
            claim = Some(Claim::take(address)?);
        }
        listeners.push(BoundListener { socket, claim: claim.clone() });
    }
    Ok((address, listeners))
}

/// With SO_REUSEPORT a second server on the port would succeed and take half of
/// the connections. A socket without it fails where one with it listens.
fn check_free(address: SocketAddr) -> io::Result<()> {
    new_socket(address)?.bind(&SockAddr::from(address))
}

/// A name that one process has at a time, and the kernel takes back when it ends.
///
/// Sockets that are bound, but do not listen yet, do not keep each other off with
/// the options that ours have: two servers that recover at once would both get the port.
#[derive(Clone)]
struct Claim(#[expect(dead_code, reason = "it is there to be held")] Arc<UnixListener>);

impl Claim {
    fn take(address: SocketAddr) -> io::Result<Claim> {
        let name = format!("boxoffice-listen-{address}");
        let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        Ok(Claim(Arc::new(UnixListener::bind_addr(&name)?)))
    }
}

/// SO_REUSEADDR lets a restart bind while old connections are in TIME_WAIT.
fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// The port is taken; nobody can connect before [`BoundListener::listen`].
pub(crate) struct BoundListener {
    socket: Socket,
    /// Until all listen.
    claim: Option<Claim>,
}

impl BoundListener {
    /// Starts to listen, on the core that calls it.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(crate) fn listen(self) -> io::Result<Listener> {
        let BoundListener { socket, claim } = self;
        socket.set_nonblocking(true)?;
        socket.listen(BACKLOG)?;
        // SAFETY: the descriptor is open, a listening TCP socket, and given away here.
        let listener = unsafe { glommio::net::TcpListener::from_raw_fd(socket.into_raw_fd()) };
        drop(claim);
        Ok(Listener(listener))
    }
}

pub struct Listener(glommio::net::TcpListener);

impl Listener {
    /// # Errors
    ///
    /// Of one connection, or for want of descriptors: worth another try a moment later.
    pub async fn accept(&self) -> io::Result<Stream> {
        let stream = self.0.accept().await.map_err(io::Error::from)?;
        stream.set_nodelay(true).map_err(io::Error::from)?;
        Ok(Stream::new(stream))
    }
}

/// What a [`Stream`] reads and writes: a connection of the runtime, or bytes in memory where a bench
/// does without it.
pub trait Transport: AsyncRead + AsyncWrite + AsRawFd + Unpin {
    /// The client's address, or 0.0.0.0 when it has gone already.
    fn peer(&self) -> IpAddr;
}

impl Transport for TcpStream {
    fn peer(&self) -> IpAddr {
        self.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
    }
}

pub struct Stream<T = TcpStream>(T);

impl<T: Transport> Stream<T> {
    pub(crate) fn new(transport: T) -> Stream<T> {
        Stream(transport)
    }

    /// Appends what comes, at most `room` bytes, to `buffer` and gives it back;
    /// 0 bytes when the client has ended its side, `TimedOut` when nothing came before `poll_end`
    /// was ready.
    pub async fn read(
        &mut self,
        mut buffer: Vec<u8>,
        room: usize,
        poll_end: impl Fn(&mut Context<'_>) -> Poll<()>,
    ) -> (io::Result<usize>, Vec<u8>) {
        let filled = buffer.len();
        buffer.resize(filled + room, 0);
        // By hand, because each idle connection waits here, and combinators make it larger.
        let result = poll_fn(|context| {
            let read = Pin::new(&mut self.0).poll_read(context, &mut buffer[filled..]);
            if read.is_pending() && poll_end(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            read
        });
        let result = result.await;
        buffer.truncate(filled + result.as_ref().copied().unwrap_or(0));
        (result, buffer)
    }

    /// Writes some of `buffer`, from `start` on, and gives it back with how much that was.
    pub async fn write(&mut self, buffer: Vec<u8>, start: usize) -> (io::Result<usize>, Vec<u8>) {
        let result = self.0.write(&buffer[start..]).await;
        (result, buffer)
    }

    /// See [`Transport::peer`].
    pub fn peer(&self) -> IpAddr {
        self.0.peer()
    }

    /// Something that can end this connection while a write of it waits.
    pub fn closer(&self) -> Closer {
        Closer(self.0.as_raw_fd())
    }

    /// Tells the client that no more will come.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn end_writing(&mut self) -> io::Result<()> {
        self.0.close().await
    }
}

/// Ends a connection from beside it. Must not outlive its stream.
pub struct Closer(RawFd);

impl Closer {
    /// A write that waits fails, and reads find the end.
    pub fn end(&self) {
        // SAFETY: the stream that this was made from is still open, see above.
        let socket = unsafe { BorrowedFd::borrow_raw(self.0) };
        // It fails when the connection is gone already, which is as good.
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    }
}
