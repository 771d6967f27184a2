//! rust-libp2p as an interop peer: commands in on standard input, answers out on standard output, one JSON object a line.

mod accept;
mod commands;
mod dht;
mod exchanges;
mod handlers;
mod muxer;
mod node;
mod options;
mod rpc;
mod transport;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, stdin, stdout};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::commands::{COMMANDS, Context, DHT_COMMANDS, Error};
use crate::handlers::LastEnd;
use crate::node::Node;
use crate::options::{Dht, KEY_TYPES, Options};

const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

const LOCK_FILE: &str = include_str!("../Cargo.lock");

/// The version of libp2p this was built with.
fn version() -> &'static str {
    let (_, entry) = LOCK_FILE.split_once("name = \"libp2p\"\nversion = \"").unwrap_or_default();
    entry.split('"').next().unwrap_or_default()
}

async fn answer(context: Context, line: String, out: mpsc::UnboundedSender<Value>) {
    let request: Value = serde_json::from_str(&line).unwrap_or_default();
    let id = request["id"].clone();
    let outcome = timeout(COMMAND_TIMEOUT, context.run(request)).await.unwrap_or_else(|late| Err(late.into()));
    let message = match outcome {
        Ok(result) => json!({"id": id, "ok": true, "result": result}),
        Err(error) => {
            let text = error.to_string();
            json!({"id": id, "ok": false, "error": text.lines().map(str::trim).collect::<Vec<_>>().join(" ")})
        }
    };
    let _ = out.send(message); // standard output is gone: so are we, soon
}

async fn write_lines(mut messages: mpsc::UnboundedReceiver<Value>) -> std::io::Result<()> {
    let mut out = stdout();
    while let Some(message) = messages.recv().await {
        out.write_all(format!("{message}\n").as_bytes()).await?;
        out.flush().await?;
    }
    Ok(())
}

async fn serve(options: Options) -> Result<(), Error> {
    let (ends, last_end) = watch::channel(LastEnd::default());
    let mut node = Node::new(&options, handlers::server(ends)).map_err(|e| e.to_string())?;
    let (out, messages) = mpsc::unbounded_channel();
    tokio::spawn(write_lines(messages));

    let addrs = node.listen(&options.listen).await?;
    let mut commands = COMMANDS.to_vec();
    if options.dht != Dht::Off {
        commands.extend(DHT_COMMANDS);
    }
    out.send(json!({
        "ready": true,
        "peer_id": node.peer_id().to_string(),
        "addrs": addrs,
        "implementation": "rust-libp2p",
        "version": format!("v{}", version()),
        "key_types": KEY_TYPES,
        "commands": commands,
    }))?;

    let (orders, taken) = mpsc::unbounded_channel();
    let context = Context { orders, control: node.control(), ends: last_end, kad: dht::protocol(&options.dht_prefix)? };
    tokio::spawn(node.run(taken));

    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if !line.trim().is_empty() {
            tokio::spawn(answer(context.clone(), line, out.clone()));
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
