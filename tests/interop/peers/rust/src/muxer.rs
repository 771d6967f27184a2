//! yamux 0.13 with the limits a test needs.
//!
//! `libp2p::yamux` cannot do it: it falls back to yamux 0.12, which lacks window growth, as soon as the number of
//! streams is set; it resets inbound streams when 256 of them wait; and it shows a reset as an end of input.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use yamux::{Config, Connection, ConnectionError, Mode};

/// As many as the default receive window of a connection, 1 GiB, has room for at 256 KiB each.
pub const MAX_STREAMS: usize = 4096;

#[derive(Clone)]
pub struct Yamux;

impl Yamux {
    fn start<C: AsyncRead + AsyncWrite + Unpin>(io: C, mode: Mode) -> Ready<io::Result<Muxer<C>>> {
        let mut config = Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config.set_read_after_close(false); // as libp2p does
        ready(Ok(Muxer { connection: Connection::new(io, config, mode), waiting: VecDeque::new() }))
    }
}

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, io: C, _: Self::Info) -> Self::Future {
        Self::start(io, Mode::Server)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, io: C, _: Self::Info) -> Self::Future {
        Self::start(io, Mode::Client)
    }
}

pub struct Muxer<C> {
    connection: Connection<C>,
    /// Streams that came while the connection was driven for something else; yamux bounds them at `MAX_STREAMS`.
    waiting: VecDeque<Stream>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_next_inbound(cx).map(|next| next.unwrap_or(Err(ConnectionError::Closed)).map(Stream::new))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        match self.waiting.pop_front() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => self.poll_next(cx),
        }
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_new_outbound(cx).map_ok(Stream::new)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        // yamux moves its frames only while it is asked for the next stream.
        match self.poll_next(cx) {
            Poll::Ready(Ok(stream)) => {
                self.waiting.push_back(stream);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

pub struct Stream {
    inner: yamux::Stream,
    write_closed: bool,
}

impl Stream {
    fn new(inner: yamux::Stream) -> Self {
        Self { inner, write_closed: false }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        // Closed both ways without our having closed our way: the remote has reset the stream.
        if matches!(read, Poll::Ready(Ok(0))) && !buf.is_empty() && !self.write_closed && self.inner.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_closed = true;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
