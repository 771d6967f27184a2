//! The task that owns the swarm: it takes orders, watches events, and answers each order when its event has come.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{self, ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, ping};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::accept::{self, Accept};
use crate::dht::{self, Kad, Queries, Query, Reply};
use crate::handlers;
use crate::muxer::MAX_STREAMS;
use crate::options::{Dht, Options};
use crate::transport::transport;

const IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 3600); // connections are closed on command

pub enum Order {
    Connect(Multiaddr),
    /// Closes the connections; rust-libp2p has no go-away codes.
    Disconnect(PeerId),
    Peers,
    Identify(PeerId),
    LastClose,
    Connections,
    Dht(Query),
}

pub type Orders = mpsc::UnboundedSender<(Order, Reply)>;

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    kad: Toggle<Kad>,
    open: libp2p_stream::Behaviour,
    accept: accept::Behaviour,
}

pub struct Node {
    swarm: Swarm<Behaviour>,
    has_dht: bool,
    dials: HashMap<ConnectionId, Reply>,
    /// Peers we are leaving, with the orders that wait for the last connection to close.
    leaving: HashMap<PeerId, Vec<Reply>>,
    identified: HashMap<PeerId, identify::Info>,
    identifying: HashMap<PeerId, Vec<Reply>>,
    /// Whether the remote has closed a connection since `LastClose` was last answered.
    closed_by_remote: bool,
    awaiting_close: Vec<Reply>,
    queries: Queries,
}

impl Node {
    pub fn new(options: &Options, accept: Accept) -> Result<Self, Box<dyn std::error::Error>> {
        let keypair = options.keypair()?;
        let local = keypair.public().to_peer_id();
        let behaviour = Behaviour {
            ping: ping::Behaviour::new(ping::Config::new()),
            // Without a signed record: libp2p 0.56 signs it for a domain of its own, and others then refuse the message.
            identify: identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), keypair.public())),
            kad: dht::behaviour(local, dht::protocol(&options.dht_prefix)?, options.dht).into(),
            open: libp2p_stream::Behaviour::new(),
            accept: accept::Behaviour::new(handlers::protocols(), accept),
        };
        let config = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_max_negotiating_inbound_streams(MAX_STREAMS);
        Ok(Self {
            swarm: Swarm::new(transport(&keypair, options)?, behaviour, local, config),
            has_dht: options.dht != Dht::Off,
            dials: HashMap::new(),
            leaving: HashMap::new(),
            identified: HashMap::new(),
            identifying: HashMap::new(),
            closed_by_remote: false,
            awaiting_close: Vec::new(),
            queries: Queries::default(),
        })
    }

    pub fn peer_id(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    pub fn control(&self) -> libp2p_stream::Control {
        self.swarm.behaviour().open.new_control()
    }

    /// Listens and returns the addresses once all are bound.
    pub async fn listen(&mut self, addrs: &[Multiaddr]) -> Result<Vec<Multiaddr>, String> {
        let mut pending = HashSet::new();
        for addr in addrs {
            pending.insert(self.swarm.listen_on(addr.clone()).map_err(|e| format!("{addr}: {e:?}"))?);
        }
        while !pending.is_empty() {
            match self.swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } => {
                    pending.remove(&listener_id);
                    self.swarm.add_external_address(address); // loopback is all there is
                }
                SwarmEvent::ListenerClosed { reason, .. } => return Err(format!("cannot listen: {reason:?}")),
                other => self.on_event(other),
            }
        }
        let local = Protocol::P2p(self.peer_id());
        Ok(self.swarm.listeners().map(|addr| addr.clone().with(local.clone())).collect())
    }

    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<(Order, Reply)>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some((order, reply)) => self.on_order(order, reply),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
    }

    fn on_order(&mut self, order: Order, reply: Reply) {
        match order {
            Order::Connect(addr) => self.connect(addr, reply),
            Order::Disconnect(peer) => {
                if self.swarm.disconnect_peer_id(peer).is_ok() {
                    self.leaving.entry(peer).or_default().push(reply);
                } else {
                    answer(reply, Ok(json!({})));
                }
            }
            Order::Peers => {
                let peers = self.swarm.connected_peers().map(PeerId::to_string).collect::<Vec<_>>();
                answer(reply, Ok(json!({"peers": peers})));
            }
            Order::Identify(peer) if !self.swarm.is_connected(&peer) => {
                answer(reply, Err(format!("not connected to {peer}")));
            }
            Order::Identify(peer) => match self.identified.get(&peer) {
                Some(info) => answer(reply, Ok(describe(info))),
                None => self.identifying.entry(peer).or_default().push(reply),
            },
            Order::LastClose => {
                self.awaiting_close.push(reply);
                self.report_close();
            }
            Order::Connections => {
                let established = self.swarm.network_info().connection_counters().num_established();
                answer(reply, Ok(json!(established)));
            }
            Order::Dht(query) => match self.swarm.behaviour_mut().kad.as_mut() {
                Some(kad) => self.queries.start(kad, query, reply),
                None => answer(reply, Err("the DHT is off".into())),
            },
        }
    }

    fn connect(&mut self, addr: Multiaddr, reply: Reply) {
        let Some(Protocol::P2p(peer)) = addr.iter().last() else {
            return answer(reply, Err(format!("{addr} does not end in /p2p/")));
        };
        if self.swarm.is_connected(&peer) {
            return answer(reply, Ok(connected(peer)));
        }
        let opts = DialOpts::peer_id(peer)
            .addresses(vec![addr])
            .condition(PeerCondition::Disconnected)
            .allocate_new_port() // the listener's port would clash with connections just closed
            .build();
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => drop(self.dials.insert(id, reply)),
            Err(error) => answer(reply, Err(error.to_string())),
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                if let Some(reply) = self.dials.remove(&connection_id) {
                    answer(reply, Ok(connected(peer_id)));
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(reply) = self.dials.remove(&connection_id) {
                    answer(reply, Err(error.to_string()));
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => self.on_closed(peer_id, num_established),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                self.on_identified(peer_id, info);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Kad(event)) => {
                if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                    self.queries.on_event(kad, event);
                }
            }
            _ => {}
        }
    }

    fn on_closed(&mut self, peer: PeerId, remaining: u32) {
        if !self.leaving.contains_key(&peer) {
            self.closed_by_remote = true;
            self.report_close();
        }
        if remaining == 0 {
            self.identified.remove(&peer);
            self.identifying.remove(&peer); // dropping the replies fails their orders
            for reply in self.leaving.remove(&peer).unwrap_or_default() {
                answer(reply, Ok(json!({})));
            }
        }
    }

    /// Each close is told once, and only to one who still waits.
    fn report_close(&mut self) {
        while self.closed_by_remote {
            let Some(reply) = self.awaiting_close.pop() else { return };
            self.closed_by_remote = reply.send(Ok(json!({"code": null}))).is_err();
        }
    }

    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        for reply in self.identifying.remove(&peer).unwrap_or_default() {
            answer(reply, Ok(describe(&info)));
        }
        if self.has_dht
            && let Some(kad) = self.swarm.behaviour_mut().kad.as_mut()
            && info.protocols.iter().any(|protocol| kad.protocol_names().contains(protocol))
        {
            for addr in &info.listen_addrs {
                kad.add_address(&peer, addr.clone());
            }
        }
        self.identified.insert(peer, info);
    }
}

fn answer(reply: Reply, result: Result<Value, String>) {
    let _ = reply.send(result); // an order that timed out waits no more
}

fn connected(peer: PeerId) -> Value {
    // Which security and muxer a connection has, the swarm does not tell.
    json!({"peer_id": peer.to_string(), "security": null, "muxer": null})
}

fn describe(info: &identify::Info) -> Value {
    json!({
        "agent": info.agent_version,
        "protocol_version": info.protocol_version,
        "protocols": info.protocols.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "listen_addrs": info.listen_addrs,
        "observed_addr": info.observed_addr,
        "key_type": info.public_key.key_type().to_string().to_lowercase(),
    })
}
