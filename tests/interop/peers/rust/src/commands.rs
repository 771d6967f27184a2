//! The commands: each from its JSON arguments to its JSON result.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cid::Cid;
use cpu_time::ProcessTime;
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::Control;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::dht::Query;
use crate::exchanges;
use crate::handlers::{AWAIT_RESET, ECHO, LastEnd, RESET};
use crate::node::{Order, Orders};
use crate::rpc;

pub type Error = Box<dyn std::error::Error + Send + Sync>;

pub const COMMANDS: [&str; 13] = [
    "connect",
    "disconnect",
    "peers",
    "ping",
    "identify",
    "echo",
    "streams",
    "reset",
    "send_reset",
    "last_reset",
    "close",
    "last_close",
    "stats",
];
pub const DHT_COMMANDS: [&str; 7] = ["find_node", "find_peer", "bootstrap", "put", "get", "provide", "find_providers"];

const PATIENCE: Duration = Duration::from_secs(5); // of last_reset and last_close

const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");

#[derive(Clone)]
pub struct Context {
    pub orders: Orders,
    pub control: Control,
    pub ends: watch::Receiver<LastEnd>,
    pub kad: StreamProtocol,
}

impl Context {
    pub async fn run(mut self, args: Value) -> Result<Value, Error> {
        let args = Arguments(&args);
        match args.text("cmd")? {
            "connect" => self.order(Order::Connect(args.text("addr")?.parse()?)).await,
            "disconnect" | "close" => self.order(Order::Disconnect(args.peer("peer")?)).await,
            "peers" => self.order(Order::Peers).await,
            "identify" => self.order(Order::Identify(args.peer("peer")?)).await,
            "last_close" => timeout(PATIENCE, self.order(Order::LastClose)).await?,
            "stats" => self.stats().await,
            "ping" => {
                let (peer, count) = (args.peer("peer")?, args.number("count")?);
                let stream = self.control.open_stream(peer, PING).await?;
                if let Ok(result) = exchanges::ping(stream, count).await {
                    return Ok(result);
                }
                // A rust-libp2p remote answers one ping stream at a time and drops the one before. On a new
                // connection our behaviour's own ping may thus have cut ours off; it does not come again soon.
                let stream = self.control.open_stream(peer, PING).await?;
                exchanges::ping(stream, count).await
            }
            "echo" => {
                let size = args.number("size")?;
                let chunk = args.number("chunk").unwrap_or(size).max(1);
                let stream = self.control.open_stream(args.peer("peer")?, ECHO).await?;
                exchanges::echo(stream, size, chunk).await
            }
            "streams" => {
                let mut streams = Vec::new();
                for _ in 0..args.number("count")? {
                    streams.push(self.control.open_stream(args.peer("peer")?, ECHO).await?);
                }
                exchanges::together(streams, args.number("size")?).await
            }
            "reset" => {
                let stream = self.control.open_stream(args.peer("peer")?, RESET).await?;
                exchanges::reset(stream, u32::try_from(args.number("code")?)?).await
            }
            "send_reset" => {
                let stream = self.control.open_stream(args.peer("peer")?, AWAIT_RESET).await?;
                exchanges::send_reset(stream).await
            }
            "last_reset" => {
                let ended = timeout(PATIENCE, self.ends.wait_for(|last| last.reset.is_some())).await??;
                Ok(json!({"reset": ended.reset, "code": null}))
            }
            "find_node" => {
                let stream = self.control.open_stream(args.peer("peer")?, self.kad.clone()).await?;
                Ok(json!({"closer": rpc::find_node(stream, args.peer("target")?).await?}))
            }
            "find_peer" => self.query(Query::FindPeer(args.peer("target")?)).await,
            "bootstrap" => self.bootstrap().await,
            "put" => self.query(Query::Put(args.record_key()?, BASE64.decode(args.text("value")?)?)).await,
            "get" => self.query(Query::Get(args.record_key()?)).await,
            "provide" => self.query(Query::Provide(args.multihash()?)).await,
            "find_providers" => self.query(Query::FindProviders(args.multihash()?)).await,
            other => Err(format!("unknown command {other}").into()),
        }
    }

    async fn order(&self, order: Order) -> Result<Value, Error> {
        let (reply, answer) = oneshot::channel();
        self.orders.send((order, reply))?;
        let answer = answer.await.map_err(|_| "the connection closed meanwhile")?;
        Ok(answer?)
    }

    async fn query(&self, query: Query) -> Result<Value, Error> {
        self.order(Order::Dht(query)).await
    }

    async fn bootstrap(&self) -> Result<Value, Error> {
        let peers = self.order(Order::Peers).await?;
        for peer in peers["peers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            // Identify brings a peer into the routing table; one that does not answer stays out.
            let _ = timeout(PATIENCE, self.order(Order::Identify(peer.parse()?))).await;
        }
        self.query(Query::Bootstrap).await
    }

    async fn stats(&self) -> Result<Value, Error> {
        Ok(json!({
            "rss_kib": memory_stats::memory_stats().map(|memory| memory.physical_mem / 1024),
            "cpu_seconds": ProcessTime::now().as_duration().as_secs_f64(),
            "connections": self.order(Order::Connections).await?,
        }))
    }
}

struct Arguments<'a>(&'a Value);

impl<'a> Arguments<'a> {
    fn text(&self, name: &str) -> Result<&'a str, Error> {
        self.0[name].as_str().ok_or_else(|| format!("{name} is missing or no text").into())
    }

    fn number(&self, name: &str) -> Result<usize, Error> {
        let number = self.0[name].as_u64().ok_or_else(|| format!("{name} is missing or no number"))?;
        Ok(usize::try_from(number)?)
    }

    fn peer(&self, name: &str) -> Result<PeerId, Error> {
        Ok(self.text(name)?.parse()?)
    }

    /// The text's bytes; after `/pk/` comes a peer id, which stands for its bytes.
    fn record_key(&self) -> Result<Vec<u8>, Error> {
        let key = self.text("key")?;
        Ok(match key.strip_prefix("/pk/") {
            Some(peer) => [b"/pk/".to_vec(), peer.parse::<PeerId>()?.to_bytes()].concat(),
            None => key.into(),
        })
    }

    /// The multihash of a CID, or one written in hexadecimal.
    fn multihash(&self) -> Result<Vec<u8>, Error> {
        let key = self.text("key")?;
        if key.len() % 2 == 0 && key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let byte = |at| u8::from_str_radix(&key[at..at + 2], 16);
            return Ok((0..key.len()).step_by(2).map(byte).collect::<Result<_, _>>()?);
        }
        Ok(Cid::try_from(key)?.hash().to_bytes())
    }
}
