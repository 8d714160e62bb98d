//! Proxies in front of the server: which are trusted, and which client they name.

use std::net::IpAddr;

use ipnet::IpNet;

use super::http::forwarded::{address, forwarded, x_forwarded_for};
use super::http::parse::Request;
use super::problem::Problem;

/// The proxies whose fields tell the client's address. Anybody else could write any address there.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies {
    pub networks: Vec<IpNet>,
    /// Every peer is a proxy: nobody else can reach the server. Which addresses in a field are those of
    /// proxies, only `networks` says.
    pub every_peer: bool,
}

impl TrustedProxies {
    /// Reads an address, or a network such as `10.0.0.0/8`.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub(crate) fn network(text: &str) -> Result<IpNet, String> {
        let text = text.trim();
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.to_canonical().into());
        }
        let network = text.parse::<IpNet>();
        let network = network.map_err(|_| "write an address or a network, like 192.0.2.1 or 10.0.0.0/8")?;
        if network.prefix_len() == 0 {
            return Err("this is every address, clients' too; name the proxies alone".to_owned());
        }
        if network.trunc() != network {
            return Err(format!(
                "write {} for the network, or {} for the address",
                network.trunc(),
                network.addr()
            ));
        }
        if network.addr().to_canonical() != network.addr() {
            return Err("write the IPv4 network, without ::ffff:".to_owned());
        }
        Ok(network)
    }

    /// Whether the other end of a connection is a proxy.
    pub(crate) fn are_at(&self, peer: IpAddr) -> bool {
        self.every_peer || self.name(peer)
    }

    fn name(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The address of the client that sent a request: the peer's, or if that is a proxy, what its fields say.
    /// The peer's also counts if a proxy sends neither field, since it then asks for itself.
    ///
    /// # Errors
    ///
    /// When a proxy's field names no address, or another one than its other field. The client may have sent
    /// one of the two, and which of them the proxy wrote is not known.
    pub(crate) fn client(&self, request: &Request<'_>, peer: IpAddr) -> Result<IpAddr, Problem> {
        if !self.are_at(peer) {
            return Ok(peer);
        }
        let old = self.named_by(X_FORWARDED_FOR, request, |line| {
            Some(x_forwarded_for(line).map(|element| Some(element.to_owned())).collect())
        })?;
        let new = self.named_by(FORWARDED, request, forwarded)?;
        match (old, new) {
            (Some(old), Some(new)) if old != new => Err(Problem::unclear_client_address(format!(
                "{X_FORWARDED_FOR} names {old}, and {FORWARDED} {new}. The proxy has to write one of them, and to \
                 remove the other one."
            ))),
            (Some(client), _) | (None, Some(client)) => Ok(client),
            (None, None) => Ok(peer),
        }
    }

    /// The last address in a field that is not a proxy's: each proxy adds the address that it was asked from
    /// to the end, and a client can have written what stands before that. If all are proxies', the first.
    /// `None` without the field.
    fn named_by(
        &self,
        field: &str,
        request: &Request<'_>,
        split: impl Fn(&str) -> Option<Vec<Option<String>>>,
    ) -> Result<Option<IpAddr>, Problem> {
        let mut lines = request.headers(field).peekable();
        if lines.peek().is_none() {
            return Ok(None);
        }
        let refused = |why: String| Err(Problem::unclear_client_address(format!("{field} {why}.")));
        let Some(lines) = lines.map(split).collect::<Option<Vec<_>>>() else {
            return refused("is not written as RFC 7239 section 4 says".to_owned());
        };
        let mut first = None;
        for node in lines.concat().into_iter().rev() {
            let Some(node) = node else {
                return refused("has an element without \"for\" where it has to name the client".to_owned());
            };
            let Some(address) = address(&node) else {
                let node: String = node.chars().take(SHOWN_CHARS_MAX).collect();
                return refused(format!("has {node:?} where it has to name the client by an IP address"));
            };
            if !self.name(address) {
                return Ok(Some(address));
            }
            first = Some(address);
        }
        if first.is_none() { refused("has no address".to_owned()) } else { Ok(first) }
    }
}

const X_FORWARDED_FOR: &str = "X-Forwarded-For";
const FORWARDED: &str = "Forwarded";

/// The most that an answer repeats of an element.
const SHOWN_CHARS_MAX: usize = 100;
