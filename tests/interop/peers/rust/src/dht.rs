//! The DHT: its configuration, and the queries that wait for their end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use libp2p::kad::{
    self, GetProvidersOk, GetRecordOk, InboundRequest, Mode, QueryId, QueryResult, Quorum, Record, RecordKey,
    StoreInserts, store::MemoryStore, store::RecordStore,
};
use libp2p::{PeerId, StreamProtocol, identity::PublicKey};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::options::Dht;

pub type Kad = kad::Behaviour<MemoryStore>;
pub type Reply = oneshot::Sender<Result<Value, String>>;

const PUBLIC_KEY_NAMESPACE: &[u8] = b"/pk/";

pub fn protocol(prefix: &str) -> Result<StreamProtocol, String> {
    StreamProtocol::try_from_owned(format!("{prefix}/kad/1.0.0")).map_err(|e| e.to_string())
}

pub fn behaviour(local: PeerId, protocol: StreamProtocol, mode: Dht) -> Option<Kad> {
    let mut config = kad::Config::new(protocol);
    // Nothing happens by itself in a test.
    config.set_periodic_bootstrap_interval(None);
    config.set_replication_interval(None);
    config.set_publication_interval(None);
    config.set_provider_publication_interval(None);
    config.set_query_timeout(Duration::from_secs(30));
    // Records come as events, to be validated before they are stored.
    config.set_record_filtering(StoreInserts::FilterBoth);
    let mut kad = Kad::with_config(local, MemoryStore::new(local), config);
    match mode {
        Dht::Off => return None,
        Dht::Server => kad.set_mode(Some(Mode::Server)),
        Dht::Client => kad.set_mode(Some(Mode::Client)),
    }
    Some(kad)
}

pub enum Query {
    FindPeer(PeerId),
    Bootstrap,
    Put(Vec<u8>, Vec<u8>),
    Get(Vec<u8>),
    Provide(Vec<u8>),
    FindProviders(Vec<u8>),
}

enum Running {
    FindPeer(PeerId, Reply),
    FindProviders(HashSet<PeerId>, Reply),
    Other(Reply),
}

#[derive(Default)]
pub struct Queries {
    running: HashMap<QueryId, Running>,
}

impl Queries {
    pub fn start(&mut self, kad: &mut Kad, query: Query, reply: Reply) {
        let started = match &query {
            Query::FindPeer(target) => Ok(kad.get_closest_peers(*target)),
            Query::Bootstrap => kad.bootstrap().map_err(|e| e.to_string()),
            Query::Put(key, value) => {
                let record = Record::new(RecordKey::new(key), value.clone());
                kad.put_record(record, Quorum::One).map_err(|e| e.to_string())
            }
            Query::Get(key) => Ok(kad.get_record(RecordKey::new(key))),
            Query::Provide(key) => kad.start_providing(RecordKey::new(key)).map_err(|e| e.to_string()),
            Query::FindProviders(key) => Ok(kad.get_providers(RecordKey::new(key))),
        };
        let running = match (started, query) {
            (Err(error), _) => {
                let _ = reply.send(Err(error));
                return;
            }
            (Ok(id), Query::FindPeer(target)) => (id, Running::FindPeer(target, reply)),
            (Ok(id), Query::FindProviders(_)) => (id, Running::FindProviders(HashSet::new(), reply)),
            (Ok(id), _) => (id, Running::Other(reply)),
        };
        self.running.insert(running.0, running.1);
    }

    pub fn on_event(&mut self, kad: &mut Kad, event: kad::Event) {
        match event {
            kad::Event::InboundRequest { request } => store(kad, request),
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => {
                let Some(running) = self.running.remove(&id) else { return };
                match running.progress(result, step.last, stats.num_successes()) {
                    Progress::Goes(running) => drop(self.running.insert(id, running)),
                    Progress::Ends => {
                        if let Some(mut query) = kad.query_mut(&id) {
                            query.finish();
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

enum Progress {
    Goes(Running),
    Ends,
}

impl Running {
    /// Takes in one result; `answered` is how many peers have answered so far.
    fn progress(self, result: QueryResult, last: bool, answered: u32) -> Progress {
        let (reply, outcome) = match (self, result) {
            (Self::FindPeer(target, reply), QueryResult::GetClosestPeers(Ok(found))) => {
                let peer = found.peers.into_iter().find(|peer| peer.peer_id == target);
                let info = peer.map(|peer| json!({"id": target.to_string(), "addrs": peer.addrs}));
                (reply, info.ok_or("not found".into()))
            }
            (Self::FindProviders(mut all, reply), QueryResult::GetProviders(Ok(found))) => {
                if let GetProvidersOk::FoundProviders { providers, .. } = found {
                    all.extend(providers);
                }
                if !last {
                    return Progress::Goes(Self::FindProviders(all, reply));
                }
                // The library tells no addresses with them.
                let all = all.iter().map(|id| json!({"id": id.to_string(), "addrs": null})).collect::<Vec<_>>();
                (reply, Ok(json!({"providers": all})))
            }
            (Self::Other(reply), QueryResult::GetRecord(Ok(found))) => match found {
                GetRecordOk::FoundRecord(found) => (reply, Ok(json!({"value": BASE64.encode(found.record.value)}))),
                _ => (reply, Err("no such value".into())),
            },
            (Self::Other(reply), QueryResult::Bootstrap(Ok(_))) => {
                if !last {
                    return Progress::Goes(Self::Other(reply));
                }
                (reply, Ok(json!({})))
            }
            (Self::Other(reply), QueryResult::PutRecord(Ok(_))) => (reply, Ok(json!({}))),
            (Self::Other(reply), QueryResult::StartProviding(Ok(_))) if answered > 0 => (reply, Ok(json!({}))),
            (Self::Other(reply), QueryResult::StartProviding(Ok(_))) => (reply, Err("no peer took it".into())),
            (Self::FindPeer(_, reply) | Self::FindProviders(_, reply) | Self::Other(reply), result) => {
                (reply, Err(failure(result)))
            }
        };
        let _ = reply.send(outcome);
        Progress::Ends
    }
}

fn failure(result: QueryResult) -> String {
    match result {
        QueryResult::Bootstrap(Err(e)) => e.to_string(),
        QueryResult::GetClosestPeers(Err(e)) => e.to_string(),
        QueryResult::GetProviders(Err(e)) => e.to_string(),
        QueryResult::StartProviding(Err(e)) => e.to_string(),
        QueryResult::GetRecord(Err(e)) => e.to_string(),
        QueryResult::PutRecord(Err(e)) => e.to_string(),
        _ => "an unexpected result".into(),
    }
}

/// Stores what a remote puts, except a public key that is not the one its key names.
fn store(kad: &mut Kad, request: InboundRequest) {
    // A full store refuses; the protocol has no answer that would say so.
    let _ = match request {
        InboundRequest::PutRecord { record: Some(record), .. } if valid(&record) => kad.store_mut().put(record),
        InboundRequest::AddProvider { record: Some(record) } => kad.store_mut().add_provider(record),
        _ => Ok(()),
    };
}

fn valid(record: &Record) -> bool {
    match record.key.as_ref().strip_prefix(PUBLIC_KEY_NAMESPACE) {
        None => true,
        Some(id) => PublicKey::try_decode_protobuf(&record.value).is_ok_and(|key| key.to_peer_id().to_bytes() == id),
    }
}
