//! As much of a Redis client as the comparison needs.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::people::Subscriber;
use crate::model::Position;

/// The key of everybody.
const KEY: &str = "homeward:bench";

/// A connection.
pub struct Redis(BufReader<TcpStream>);

impl Redis {
    /// Connects to `HOST:PORT`; the key of an earlier run goes.
    pub async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("Redis at {address}"))?;
        stream.set_nodelay(true)?;
        let mut redis = Self(BufReader::with_capacity(1 << 16, stream));
        redis.call(&["DEL", KEY]).await?;
        Ok(redis)
    }

    /// Registers people, or moves them.
    pub async fn put(&mut self, people: &[Subscriber]) -> anyhow::Result<()> {
        let mut parts = vec!["GEOADD".to_owned(), KEY.to_owned()];
        for one in people {
            parts.extend([
                one.at.lon().to_string(),
                one.at.lat().to_string(),
                one.token(),
            ]);
        }
        self.call(&parts).await.map(drop)
    }

    /// The tokens of everybody in a circle.
    pub async fn within(&mut self, at: Position, km: f64) -> anyhow::Result<Vec<Vec<u8>>> {
        let (lon, lat, km) = (at.lon().to_string(), at.lat().to_string(), km.to_string());
        self.call(&[
            "GEOSEARCH",
            KEY,
            "FROMLONLAT",
            &lon,
            &lat,
            "BYRADIUS",
            &km,
            "km",
        ])
        .await
    }

    async fn call(&mut self, parts: &[impl AsRef<str>]) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut request = format!("*{}\r\n", parts.len());
        for part in parts.iter().map(AsRef::as_ref) {
            write!(request, "${}\r\n{part}\r\n", part.len())?;
        }
        self.0.get_mut().write_all(request.as_bytes()).await?;
        let answer = self.line().await?;
        match answer.split_at_checked(1).context("Redis said nothing")? {
            ("*", count) => {
                let mut values = Vec::new();
                for _ in 0..count.parse::<usize>()? {
                    let bytes: usize = self.line().await?[1..].parse()?;
                    let mut value = vec![0; bytes + 2];
                    self.0.read_exact(&mut value).await?;
                    value.truncate(bytes);
                    values.push(value);
                }
                Ok(values)
            }
            (":" | "+", _) => Ok(Vec::new()),
            _ => bail!("Redis said {answer}"),
        }
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        Ok(line.trim_end().to_owned())
    }
}
