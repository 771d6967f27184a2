//! One FIND_NODE exchange on a stream of its own, for which the library, whose lookups are iterative, has no call.

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::Stream;
use libp2p::{Multiaddr, PeerId};
use serde_json::{Value, json};
use unsigned_varint::{aio, decode};

const FIND_NODE: u8 = 4;
const MAX_MESSAGE: usize = 4 * 1024 * 1024; // what go-libp2p sends at most

// Protobuf keys of dht.proto: field number << 3 | wire type.
const MESSAGE_TYPE: u8 = 1 << 3;
const MESSAGE_KEY: u8 = 2 << 3 | 2;
const CLOSER_PEERS: u64 = 8 << 3 | 2;
const PEER_ID: u64 = 1 << 3 | 2;
const PEER_ADDRS: u64 = 2 << 3 | 2;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Asks for the peers closest to the target: [{id, addrs}].
pub async fn find_node(mut stream: Stream, target: PeerId) -> Result<Value, Error> {
    let key = target.to_bytes();
    let length = u8::try_from(key.len())?; // a peer id has at most 42 bytes, so that one byte each is enough
    let mut request = vec![length + 4, MESSAGE_TYPE, FIND_NODE, MESSAGE_KEY, length];
    request.extend(key);
    stream.write_all(&request).await?;
    stream.flush().await?;

    let length = aio::read_usize(&mut stream).await?;
    if length > MAX_MESSAGE {
        return Err(format!("an answer of {length} bytes").into());
    }
    let mut response = vec![0; length];
    stream.read_exact(&mut response).await?;
    stream.close().await?;

    let mut closer = Vec::new();
    for (field, bytes) in fields(&response)? {
        if field == CLOSER_PEERS {
            closer.push(peer(bytes)?);
        }
    }
    Ok(Value::Array(closer))
}

fn peer(bytes: &[u8]) -> Result<Value, Error> {
    let mut id = None;
    let mut addrs = Vec::new();
    for (field, bytes) in fields(bytes)? {
        match field {
            PEER_ID => id = Some(PeerId::from_bytes(bytes)?),
            PEER_ADDRS => addrs.push(Multiaddr::try_from(bytes.to_vec())?),
            _ => {}
        }
    }
    Ok(json!({"id": id.ok_or("a peer without id")?.to_string(), "addrs": addrs}))
}

/// The fields of a protobuf message as (key, payload); the payload of a number is empty.
fn fields(mut rest: &[u8]) -> Result<Vec<(u64, &[u8])>, Error> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (field, after) = decode::u64(rest)?;
        let (number, after) = decode::u64(after)?;
        let length = match field & 7 {
            0 => 0,
            2 => usize::try_from(number)?,
            other => return Err(format!("wire type {other}").into()),
        };
        let payload = after.get(..length).ok_or("a truncated message")?;
        found.push((field, payload));
        rest = &after[length..];
    }
    Ok(found)
}
