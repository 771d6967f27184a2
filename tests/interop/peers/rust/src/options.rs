//! The command line of the peer, as CONTRACT.md lays it down.

use libp2p::Multiaddr;
use libp2p::identity::{DecodingError, Keypair};
use rsa::pkcs8::EncodePrivateKey;

pub const KEY_TYPES: [&str; 4] = ["ed25519", "secp256k1", "ecdsa", "rsa"];

const RSA_BITS: usize = 2048;

#[derive(Clone, Copy, PartialEq)]
pub enum Security {
    Noise,
    Tls,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Dht {
    Off,
    Server,
    Client,
}

pub struct Options {
    pub listen: Vec<Multiaddr>,
    pub key_type: String,
    pub security: Security,
    pub dht: Dht,
    pub dht_prefix: String,
    /// PEM file with chain and key, to listen on wss.
    pub web_cert: Option<String>,
    /// PEM file with the certificates trusted on wss.
    pub web_trust: Option<String>,
}

impl Options {
    /// Parses the arguments; the error is the line for standard error.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            listen: Vec::new(),
            key_type: "ed25519".into(),
            security: Security::Noise,
            dht: Dht::Off,
            dht_prefix: "/p2pstack".into(),
            web_cert: None,
            web_trust: None,
        };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match (name.as_str(), value.as_str()) {
                ("--listen", addr) => options.listen.push(addr.parse().map_err(|e| format!("--listen {addr}: {e}"))?),
                ("--key-type", kind) if KEY_TYPES.contains(&kind) => options.key_type = value,
                ("--security", "noise") => options.security = Security::Noise,
                ("--security", "tls") => options.security = Security::Tls,
                ("--muxer", "yamux") => {}
                ("--dht", "off") => options.dht = Dht::Off,
                ("--dht", "server") => options.dht = Dht::Server,
                ("--dht", "client") => options.dht = Dht::Client,
                ("--dht-prefix", _) => options.dht_prefix = value,
                ("--web-cert", _) => options.web_cert = Some(value),
                ("--web-trust", _) => options.web_trust = Some(value),
                ("--key-type" | "--security" | "--muxer" | "--dht", _) => {
                    return Err(format!("{name} {value} is not supported"));
                }
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }

    /// A fresh key of the type asked for.
    pub fn keypair(&self) -> Result<Keypair, DecodingError> {
        match self.key_type.as_str() {
            "secp256k1" => Ok(Keypair::generate_secp256k1()),
            "ecdsa" => Ok(Keypair::generate_ecdsa()),
            // libp2p reads RSA keys but makes none.
            "rsa" => {
                let key = rsa::RsaPrivateKey::new(&mut rand::thread_rng(), RSA_BITS).expect("a valid size");
                let mut der = key.to_pkcs8_der().expect("a valid key").as_bytes().to_vec();
                Keypair::rsa_from_pkcs8(&mut der)
            }
            _ => Ok(Keypair::generate_ed25519()),
        }
    }
}
