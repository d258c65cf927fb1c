//! A message on the wire, in the form that its app chose.

use lapin::BasicProperties;
use lapin::types::ShortString;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use super::PERSISTENT;
use crate::DESCRIPTIONS;
use crate::model::{BatchFormat, BatchId, Kind};
use crate::queue::Message;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// A message as it is published.
pub(super) struct Written {
    pub id: BatchId,
    pub kind: Kind,
    pub body: Vec<u8>,
    pub properties: BasicProperties,
}

/// Writes messages out and reads them back.
pub(super) struct Bodies(Option<MessageDescriptor>);

impl Bodies {
    pub fn new() -> Self {
        // The descriptions are our own; a test reads them.
        let pool = DescriptorPool::decode(DESCRIPTIONS).ok();
        Self(pool.and_then(|pool| pool.get_message_by_name("homeward.v1.AlertBatch")))
    }

    /// The message as its app wants it. What cannot be written as JSON, which no test has managed, is
    /// better sent as protobuf than not at all; the content type says so.
    pub fn write(&self, format: BatchFormat, message: Message) -> Written {
        let json = match format {
            BatchFormat::Json => self.to_json(&message.body),
            BatchFormat::Protobuf => None,
        };
        let content_type = if json.is_some() { JSON } else { PROTOBUF };
        let properties = BasicProperties::default()
            .with_message_id(message.id.to_string().into())
            .with_type(format!("alert.{}", message.kind.name()).into())
            .with_content_type(content_type.into())
            .with_expiration(message.life.as_millis().to_string().into())
            .with_delivery_mode(PERSISTENT)
            .with_app_id("homeward".into());
        Written {
            id: message.id,
            kind: message.kind,
            body: json.unwrap_or(message.body),
            properties,
        }
    }

    fn to_json(&self, body: &[u8]) -> Option<Vec<u8>> {
        let message = DynamicMessage::decode(self.0.clone()?, body).ok()?;
        serde_json::to_vec(&message).ok()
    }

    /// A delivered message's batch and its protobuf; none if it is not one of ours.
    pub fn read(&self, properties: &BasicProperties, body: Vec<u8>) -> Option<(BatchId, Vec<u8>)> {
        let id = batch_id(properties)?;
        match properties.content_type().as_ref().map(ShortString::as_str) {
            Some(PROTOBUF) => Some((id, body)),
            Some(JSON) => {
                let mut json = serde_json::Deserializer::from_slice(&body);
                let message = DynamicMessage::deserialize(self.0.clone()?, &mut json).ok()?;
                Some((id, message.encode_to_vec()))
            }
            _ => None,
        }
    }
}

/// The batch that a message carries; none if it is not one of ours.
pub(super) fn batch_id(properties: &BasicProperties) -> Option<BatchId> {
    properties.message_id().as_ref()?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::alert::compose::test_alert;
    use crate::alert::proto::v1::{AlertBatch, Area};
    use crate::model::AlertId;

    fn message() -> (Message, AlertBatch) {
        let now = Timestamp::UNIX_EPOCH;
        let id = BatchId::fresh();
        let mut alert = test_alert(AlertId::fresh(), now);
        alert.area = Some(Area {
            cells: vec![0x0891_976b_b667_ffff],
            centre_lat: 57.1,
            centre_lon: -2.1,
            radius_m: 500.0,
        });
        let batch = AlertBatch {
            batch_id: id.to_string(),
            alert: Some(alert),
            tokens: vec![b"device-1".to_vec(), vec![0, 255]],
        };
        let message = Message {
            id,
            kind: Kind::Issue,
            body: batch.encode_to_vec(),
            life: Duration::from_mins(1),
        };
        (message, batch)
    }

    #[test]
    fn both_forms_come_back_as_they_went() {
        let bodies = Bodies::new();
        let (message, batch) = message();
        for (format, kind) in [(BatchFormat::Protobuf, PROTOBUF), (BatchFormat::Json, JSON)] {
            let written = bodies.write(format, message.clone());
            assert_eq!(written.properties.content_type(), &Some(kind.into()));
            assert_eq!(written.properties.kind(), &Some("alert.issue".into()));
            let left: u64 = written
                .properties
                .expiration()
                .as_ref()
                .unwrap()
                .as_str()
                .parse()
                .unwrap();
            assert!((58_000..=60_000).contains(&left), "{left}");
            let (id, body) = bodies.read(&written.properties, written.body).unwrap();
            assert_eq!(id, message.id);
            assert_eq!(AlertBatch::decode(body.as_slice()).unwrap(), batch);
        }
    }

    #[test]
    fn json_is_the_one_that_protobuf_libraries_read() {
        let (message, batch) = message();
        let written = Bodies::new().write(BatchFormat::Json, message);
        let json: serde_json::Value = serde_json::from_slice(&written.body).unwrap();
        assert_eq!(json["batchId"], batch.batch_id);
        assert_eq!(json["tokens"][0], "ZGV2aWNlLTE=");
        assert_eq!(json["alert"]["kind"], "KIND_TEST");
        assert_eq!(
            json["alert"]["area"]["cells"][0],
            0x0891_976b_b667_ffff_u64.to_string()
        );
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        let bodies = Bodies::new();
        assert!(bodies.read(&BasicProperties::default(), vec![1]).is_none());
        let (message, _) = message();
        let written = bodies.write(BatchFormat::Protobuf, message);
        let odd = written.properties.with_content_type("text/plain".into());
        assert!(bodies.read(&odd, vec![1]).is_none());
    }
}
