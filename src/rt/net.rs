//! TCP: listeners that share an address through the kernel, and streams.
#![allow(unsafe_code, reason = "a connection is ended through its raw descriptor while a write waits")]

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendFlags, Shutdown, SocketFlags, acceptfrom_with, recv, send, shutdown, sockopt,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub(crate) use super::readiness::Sockets;
use super::readiness::Watched;

/// Connections that the kernel queues for one core until it accepts them: thousands may arrive within the few
/// milliseconds that a batch takes.
const BACKLOG: i32 = 4096;

/// Binds one socket for each of `count` cores, all to the same address, and listens on them; the kernel
/// distributes connections over them. With port 0 all get the same free port.
///
/// # Errors
///
/// `AddrInUse` when a process listens there, or another boxoffice is about to.
pub(crate) fn bind_all(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<ListeningSocket>)> {
    // In this order: the previous holder of the claim listens before it releases the claim, so the check finds it.
    let mut claim = (address.port() != 0).then(|| Claim::take(address)).transpose()?;
    check_free(address)?;
    let mut address = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = new_socket(address)?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SockAddr::from(address))?;
        if address.port() == 0 {
            let bound = socket.local_addr()?.as_socket();
            address = bound.ok_or_else(|| io::Error::other("a TCP socket has an IP address"))?;
        }
        if claim.is_none() {
            claim = Some(Claim::take(address)?);
        }
        listeners.push(ListeningSocket(socket));
    }
    for ListeningSocket(socket) in &listeners {
        socket.listen(BACKLOG)?;
    }
    Ok((address, listeners))
}

/// Fails when a process listens on the address. A socket with SO_REUSEPORT would not fail: a second server
/// would take half of the connections.
fn check_free(address: SocketAddr) -> io::Result<()> {
    new_socket(address)?.bind(&SockAddr::from(address))
}

/// A name that one process holds at a time, and that the kernel releases when the process ends.
///
/// With their options, sockets that are bound but do not listen yet do not exclude each other: two
/// servers that start at the same time would both get the port.
struct Claim(#[expect(dead_code, reason = "held until it is dropped")] UnixListener);

impl Claim {
    fn take(address: SocketAddr) -> io::Result<Claim> {
        let name = format!("boxoffice-listen-{address}");
        let name = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        Ok(Claim(UnixListener::bind_addr(&name)?))
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

/// A socket that listens, and on which nobody accepts yet.
pub(crate) struct ListeningSocket(Socket);

impl ListeningSocket {
    /// Another descriptor of the same socket.
    ///
    /// # Errors
    ///
    /// When there are too few descriptors.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    /// Moves it to the core of these sockets.
    ///
    /// # Errors
    ///
    /// When the kernel cannot watch it.
    pub(crate) fn open(self, sockets: &Rc<Sockets>) -> io::Result<Listener> {
        Ok(Listener(sockets.watch(self.0.into())?))
    }
}

/// Accepts a connection, if one waits. Returns its socket, and the address of the other end.
///
/// # Errors
///
/// When this connection failed, or there are too few descriptors: the caller may retry soon. `InvalidInput` when
/// the socket does not listen any more.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<Option<(OwnedFd, IpAddr)>> {
    match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok((socket, peer)) => {
            sockopt::set_tcp_nodelay(&socket, true)?;
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
            Ok(Some((socket, peer)))
        }
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) struct Listener(Watched);

impl Listener {
    /// Waits for a connection and accepts it.
    ///
    /// # Errors
    ///
    /// As for [`accept`].
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        loop {
            poll_fn(|context| self.0.poll_readable(context)).await;
            match accept(&self.0)? {
                Some((socket, peer)) => return Stream::new(self.0.sockets(), socket, peer),
                None => self.0.would_block(),
            }
        }
    }
}

impl Drop for Listener {
    /// Stops listening. Closing the socket would not do: it has another descriptor ([`ListeningSocket::share`]).
    fn drop(&mut self) {
        let stopped = shutdown(&self.0, Shutdown::Read);
        debug_assert_eq!(stopped, Ok(()), "it listens");
    }
}

pub(crate) struct Stream {
    socket: Watched,
    peer: IpAddr,
}

impl Stream {
    /// A stream of a connected, non-blocking socket.
    ///
    /// # Errors
    ///
    /// When the kernel cannot watch it.
    pub(crate) fn new(sockets: &Rc<Sockets>, socket: OwnedFd, peer: IpAddr) -> io::Result<Stream> {
        Ok(Stream { socket: sockets.watch(socket)?, peer })
    }

    /// Whether a read may return something without waiting.
    pub(crate) fn is_readable(&self) -> bool {
        self.socket.is_readable()
    }

    /// Ready when a read returns bytes, the end, or an error.
    pub(crate) fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        self.socket.poll_readable(context)
    }

    /// Ready when the client has closed its side or the connection is gone, even if bytes are unread. For one
    /// task at a time, which does not wait for a read meanwhile.
    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Poll<()> {
        self.socket.poll_ended(context)
    }

    /// Appends received bytes to `buffer`, within its capacity. Returns their number, 0 when the client has
    /// closed its side.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing was received; any other error when the connection is gone.
    pub(crate) fn read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        debug_assert!(room > 0, "a read into no room looks like the end of the stream");
        match recv(&self.socket, spare_capacity(buffer), RecvFlags::DONTWAIT) {
            Ok((_, count)) => {
                if count < room {
                    self.socket.was_emptied();
                }
                Ok(count)
            }
            Err(error) => {
                if error == Errno::AGAIN {
                    self.socket.would_block();
                }
                Err(error.into())
            }
        }
    }

    /// Writes some of `bytes`, and returns their number.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => return Ok(count),
                Err(Errno::AGAIN) => {
                    self.socket.was_filled();
                    poll_fn(|context| self.socket.poll_writable(context)).await;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sets how many bytes the kernel keeps until the client has received them. Returns how many these were, if the
    /// kernel changed it.
    pub(crate) fn keep_unread(&self, bytes: usize) -> Option<usize> {
        let before = sockopt::socket_send_buffer_size(&self.socket).ok()?;
        sockopt::set_socket_send_buffer_size(&self.socket, bytes).ok()?;
        // The kernel returns twice what was set.
        Some(before / 2)
    }

    /// The address of the other end. An IPv4 address is never mapped into IPv6.
    pub(crate) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// A handle that can end this connection while a write waits.
    pub(crate) fn closer(&self) -> Closer {
        Closer(self.socket.as_fd().as_raw_fd())
    }

    /// Closes this side of the connection.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        Ok(shutdown(&self.socket, Shutdown::Write)?)
    }
}

/// A handle that ends a connection. Must not outlive its stream.
pub(crate) struct Closer(RawFd);

impl Closer {
    /// Whether there is something to read, or the client has disconnected.
    pub(crate) fn has_input(&self) -> bool {
        // SAFETY: as in `end`.
        let socket = unsafe { BorrowedFd::borrow_raw(self.0) };
        let peeked = recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(peeked, Err(Errno::AGAIN))
    }

    /// Ends the connection: a waiting write fails, and reads return the end.
    pub(crate) fn end(&self) {
        // SAFETY: the stream that this was made from is still open, see above.
        let socket = unsafe { BorrowedFd::borrow_raw(self.0) };
        // Fails when the connection is gone already.
        let _ = shutdown(socket, Shutdown::Both);
    }
}
