//! What the stream commands do on the streams they have opened.

use std::time::Instant;

use futures::future::{try_join, try_join_all};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::Stream;
use rand::RngCore;
use serde_json::{Value, json};

use crate::commands::Error;
use crate::handlers::read_to_reset;

const PING_SIZE: usize = 32;
const BUFFER: usize = 64 * 1024;

fn random(size: usize) -> Vec<u8> {
    let mut data = vec![0; size];
    rand::thread_rng().fill_bytes(&mut data);
    data
}

/// Pings by hand, as the library's behaviour only does so on a timer.
pub async fn ping(mut stream: Stream, count: usize) -> Result<Value, Error> {
    let mut rtts = Vec::new();
    for _ in 0..count {
        let data = random(PING_SIZE);
        let started = Instant::now();
        exchange(&mut stream, &data).await?;
        rtts.push(started.elapsed().as_secs_f64() * 1e3);
    }
    stream.close().await?;
    Ok(json!({"rtt_ms": rtts}))
}

/// Sends and reads as much back, which must be the same.
async fn exchange(stream: &mut Stream, data: &[u8]) -> Result<(), Error> {
    stream.write_all(data).await?;
    stream.flush().await?;
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back).await?;
    if back == data { Ok(()) } else { Err("an echo differs from what was sent".into()) }
}

pub async fn echo(stream: Stream, size: usize, chunk: usize) -> Result<Value, Error> {
    let data = random(size);
    let (mut reader, mut writer) = stream.split();
    let write = async {
        for part in data.chunks(chunk) {
            writer.write_all(part).await?;
        }
        writer.close().await
    };
    let read = async {
        let mut buffer = vec![0; BUFFER];
        let (mut bytes, mut same) = (0, true);
        loop {
            match reader.read(&mut buffer).await? {
                0 => return Ok((bytes, same && bytes == size)),
                n => {
                    same &= data.get(bytes..bytes + n) == Some(&buffer[..n]);
                    bytes += n;
                }
            }
        }
    };
    let ((), (bytes, ok)) = try_join(write, read).await?;
    Ok(json!({"bytes": bytes, "ok": ok}))
}

/// All streams exchange `size` bytes; when all have, all half-close and read to the end.
pub async fn together(mut streams: Vec<Stream>, size: usize) -> Result<Value, Error> {
    try_join_all(streams.iter_mut().map(|stream| async move { exchange(stream, &random(size)).await })).await?;
    try_join_all(streams.iter_mut().map(|stream| stream.close())).await?;
    try_join_all(streams.iter_mut().map(|stream| async move {
        match stream.read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(Error::from("more came back than was sent")),
        }
    }))
    .await?;
    Ok(json!({"opened": streams.len()}))
}

pub async fn reset(mut stream: Stream, code: u32) -> Result<Value, Error> {
    stream.write_all(&code.to_be_bytes()).await?;
    stream.flush().await?;
    Ok(json!({"reset": read_to_reset(&mut stream).await, "code": null}))
}

/// Ends by dropping the open stream, which resets it; rust-libp2p has no reset codes.
pub async fn send_reset(mut stream: Stream) -> Result<Value, Error> {
    exchange(&mut stream, &random(1)).await?;
    Ok(json!({}))
}
