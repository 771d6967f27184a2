//! The test protocols this peer serves.

use std::io;
use std::sync::Arc;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::swarm::Stream;
use tokio::sync::watch;

use crate::accept::Accept;

pub const ECHO: StreamProtocol = StreamProtocol::new("/echo/1.0.0");
pub const SINK: StreamProtocol = StreamProtocol::new("/sink/1.0.0");
pub const RESET: StreamProtocol = StreamProtocol::new("/reset/1.0.0");
pub const AWAIT_RESET: StreamProtocol = StreamProtocol::new("/await-reset/1.0.0");

/// Small enough that a thousand streams cost little.
const BUFFER: usize = 16 * 1024;

pub fn protocols() -> Vec<StreamProtocol> {
    vec![ECHO, SINK, RESET, AWAIT_RESET]
}

/// The latest /await-reset stream: which it was, and whether it was reset once it has ended.
#[derive(Clone, Copy, Default)]
pub struct LastEnd {
    serial: u64,
    pub reset: Option<bool>,
}

/// Serves each accepted stream in a task of its own.
pub fn server(ends: watch::Sender<LastEnd>) -> Accept {
    Arc::new(move |protocol, stream| {
        let ends = ends.clone();
        tokio::spawn(async move {
            // An error is the remote's breaking off: there is nobody left to tell.
            let _ = match protocol {
                name if name == ECHO => echo(stream).await,
                name if name == SINK => sink(stream).await,
                name if name == RESET => reset(stream).await,
                _ => await_reset(stream, ends).await,
            };
        });
    })
}

async fn echo(mut stream: Stream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.close().await,
            n => {
                stream.write_all(&buffer[..n]).await?;
                stream.flush().await?;
            }
        }
    }
}

async fn sink(mut stream: Stream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut count: u64 = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => break,
            n => count += n as u64,
        }
    }
    stream.write_all(&count.to_be_bytes()).await?;
    stream.close().await
}

async fn reset(mut stream: Stream) -> io::Result<()> {
    // rust-libp2p has no reset codes: the four bytes say when, not with what.
    stream.read_exact(&mut [0; 4]).await?;
    drop(stream); // of an open stream: a reset
    Ok(())
}

async fn await_reset(mut stream: Stream, ends: watch::Sender<LastEnd>) -> io::Result<()> {
    let mut serial = 0;
    ends.send_modify(|last| {
        serial = last.serial + 1;
        *last = LastEnd { serial, reset: None };
    });
    let reset = ended_by_reset(&mut stream).await;
    ends.send_if_modified(|last| {
        let latest = last.serial == serial;
        if latest {
            last.reset = Some(reset);
        }
        latest
    });
    stream.close().await
}

async fn ended_by_reset(stream: &mut Stream) -> bool {
    let mut byte = [0];
    let answered = async {
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
        stream.flush().await
    };
    answered.await.is_err() || read_to_reset(stream).await
}

/// Reads on to the end of input and tells whether it was a reset.
pub async fn read_to_reset(stream: &mut Stream) -> bool {
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(_) => return true,
        }
    }
}
