//! TCP: listeners shared by all cores through the kernel, and streams.
#![allow(unsafe_code, reason = "a connection is ended from beside it by its raw descriptor")]

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendFlags, Shutdown, SocketFlags, acceptfrom_with, recv, send, shutdown, sockopt,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub(crate) use super::readiness::Sockets;
use super::readiness::Watched;

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
    /// Starts to listen, on the core whose sockets these are.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(crate) fn listen(self, sockets: &Rc<Sockets>) -> io::Result<Listener> {
        let BoundListener { socket, claim } = self;
        socket.set_nonblocking(true)?;
        socket.listen(BACKLOG)?;
        let listener = sockets.watch(socket.into())?;
        drop(claim);
        Ok(Listener(listener))
    }
}

pub(crate) struct Listener(Watched);

impl Listener {
    /// # Errors
    ///
    /// Of one connection, or for want of descriptors: worth another try a moment later.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        loop {
            poll_fn(|context| self.0.poll_readable(context)).await;
            match acceptfrom_with(&self.0, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((socket, peer)) => {
                    sockopt::set_tcp_nodelay(&socket, true)?;
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
                    return Stream::new(self.0.sockets(), socket, peer);
                }
                Err(Errno::AGAIN) => self.0.would_block(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

pub(crate) struct Stream {
    socket: Watched,
    peer: IpAddr,
}

impl Stream {
    /// Of a connected socket that does not block.
    ///
    /// # Errors
    ///
    /// When the kernel cannot watch it.
    pub(crate) fn new(sockets: &Rc<Sockets>, socket: OwnedFd, peer: IpAddr) -> io::Result<Stream> {
        Ok(Stream { socket: sockets.watch(socket)?, peer })
    }

    /// Ready when a read has something to say: bytes, the end, or an error.
    pub(crate) fn poll_readable(&self, context: &Context<'_>) -> Poll<()> {
        self.socket.poll_readable(context)
    }

    /// Ready when the client has ended its side or is gone, however much of what it sent before is
    /// still unread. For one task at a time, which does not wait to read.
    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Poll<()> {
        self.socket.poll_ended(context)
    }

    /// Appends what has come to `buffer`, as much as it has room for: how many bytes, 0 when the
    /// client has ended its side.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nothing after all; else the connection is gone.
    pub(crate) fn read(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        debug_assert!(room > 0, "an empty read would look like the client's end");
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

    /// Writes some of `bytes`, and says how much.
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

    /// The client's address.
    pub(crate) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Something that can end this connection while a write of it waits.
    pub(crate) fn closer(&self) -> Closer {
        Closer(self.socket.as_fd().as_raw_fd())
    }

    /// Tells the client that no more will come.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub(crate) fn end_writing(&self) -> io::Result<()> {
        Ok(shutdown(&self.socket, Shutdown::Write)?)
    }
}

/// Ends a connection from beside it. Must not outlive its stream.
pub(crate) struct Closer(RawFd);

impl Closer {
    /// A write that waits fails, and reads find the end.
    pub(crate) fn end(&self) {
        // SAFETY: the stream that this was made from is still open, see above.
        let socket = unsafe { BorrowedFd::borrow_raw(self.0) };
        // It fails when the connection is gone already, which is as good.
        let _ = shutdown(socket, Shutdown::Both);
    }
}
