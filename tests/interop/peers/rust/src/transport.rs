//! What the peer speaks: QUIC, and TCP and WebSocket with one security and yamux on top.

use std::error::Error;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, noise, quic, tcp, tls};
use libp2p_websocket as websocket;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::muxer::{MAX_STREAMS, Yamux};
use crate::options::{Options, Security};

const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

type Finished = Boxed<(PeerId, StreamMuxerBox)>;

pub fn transport(keypair: &Keypair, options: &Options) -> Result<Finished, Box<dyn Error>> {
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default());
    let mut web = websocket::Config::new(tcp());
    web.set_tls_config(web_tls(options)?);
    let mut config = quic::Config::new(keypair);
    config.max_concurrent_stream_limit = MAX_STREAMS as u32;
    let quic = quic::tokio::Transport::new(config).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed();
    let web = upgraded(web, keypair, options.security)?;
    let tcp = upgraded(tcp(), keypair, options.security)?;
    Ok(any(quic, any(web, tcp)))
}

fn any(first: Finished, second: Finished) -> Finished {
    OrTransport::new(first, second).map(|either, _| either.into_inner()).boxed()
}

fn upgraded<T>(raw: T, keypair: &Keypair, security: Security) -> Result<Finished, Box<dyn Error>>
where
    T: Transport<ListenerUpgrade: Send, Dial: Send, Error: Send + Sync> + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let raw = raw.upgrade(Version::V1Lazy);
    Ok(match security {
        Security::Noise => {
            raw.authenticate(noise::Config::new(keypair)?).multiplex(Yamux).timeout(UPGRADE_TIMEOUT).boxed()
        }
        Security::Tls => raw.authenticate(tls::Config::new(keypair)?).multiplex(Yamux).timeout(UPGRADE_TIMEOUT).boxed(),
    })
}

/// The certificates of wss, as far as they were given.
fn web_tls(options: &Options) -> Result<websocket::tls::Config, Box<dyn Error>> {
    let mut tls = websocket::tls::Config::builder();
    if let Some(path) = &options.web_cert {
        let key = PrivateKeyDer::from_pem_file(path)?.secret_der().to_vec();
        tls.server(websocket::tls::PrivateKey::new(key), certificates(path)?)?;
    }
    if let Some(path) = &options.web_trust {
        for certificate in certificates(path)? {
            tls.add_trust(&certificate)?;
        }
    }
    Ok(tls.finish())
}

fn certificates(path: &str) -> Result<Vec<websocket::tls::Certificate>, Box<dyn Error>> {
    let read = |found: Result<CertificateDer, _>| Ok(websocket::tls::Certificate::new(found?.to_vec()));
    CertificateDer::pem_file_iter(path)?.map(read).collect()
}
