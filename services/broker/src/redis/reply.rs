//! Takes Redis' answers apart. An answer of another shape than its command gives is an error, never a guess.

use bytes::Bytes;
use carillon_model::Offset;
use redis::Value;

use crate::{BrokerError, Incarnation, Life, PartitionState, Result};

fn unexpected(wanted: &str, value: &Value) -> BrokerError {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) => "a text",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    BrokerError::Corrupt(format!("expected {wanted} from Redis, got {kind}"))
}

pub(super) fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        Value::Map(pairs) => Ok(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        other => Err(unexpected("a list", &other)),
    }
}

/// A list of exactly so many values.
pub(super) fn tuple<const N: usize>(value: Value) -> Result<[Value; N]> {
    let values = array(value)?;
    let count = values.len();
    values
        .try_into()
        .map_err(|_| BrokerError::Corrupt(format!("expected {N} values from Redis, got {count}")))
}

pub(super) fn bytes(value: Value) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        Value::SimpleString(text) => Ok(text.into_bytes().into()),
        other => Err(unexpected("bytes", &other)),
    }
}

pub(super) fn text(value: Value) -> Result<String> {
    match value {
        Value::Int(number) => Ok(number.to_string()),
        Value::Okay => Ok("OK".to_owned()),
        other => String::from_utf8(bytes(other)?.to_vec())
            .map_err(|_| BrokerError::Corrupt("expected UTF-8 from Redis".to_owned())),
    }
}

pub(super) fn number(value: Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(number),
        Value::Nil => Ok(0),
        other => text(other)?
            .parse()
            .map_err(|_| BrokerError::Corrupt("expected a number from Redis".to_owned())),
    }
}

pub(super) fn unsigned(value: Value) -> Result<u64> {
    u64::try_from(number(value)?).map_err(|_| BrokerError::Corrupt("expected a count from Redis".to_owned()))
}

/// `None` for a missing key.
pub(super) fn present(value: Value) -> Option<Value> {
    match value {
        Value::Nil | Value::Boolean(false) => None,
        other => Some(other),
    }
}

pub(super) fn offset(value: Value) -> Result<Offset> {
    text(value)?
        .parse()
        .map_err(|error: carillon_model::offset::InvalidOffset| BrokerError::Corrupt(error.to_string()))
}

pub(super) fn optional_offset(value: Value) -> Result<Option<Offset>> {
    present(value).map(offset).transpose()
}

/// A stream's entry: its id and its fields, names and values in turn.
pub(super) fn entry(value: Value) -> Result<(Offset, Vec<Value>)> {
    let [id, fields] = tuple(value)?;
    // An entry deleted while it is read has none.
    Ok((
        offset(id)?,
        present(fields).map(array).transpose()?.unwrap_or_default(),
    ))
}

/// The value of an entry's only field, whatever its name.
pub(super) fn only_field(fields: Vec<Value>) -> Bytes {
    fields
        .into_iter()
        .nth(1)
        .and_then(|value| bytes(value).ok())
        .unwrap_or_default()
}

/// Incarnations, in order. What is none was written by somebody else.
pub(super) fn incarnations(value: Value) -> Result<Vec<Incarnation>> {
    let mut all = Vec::new();
    for member in array(value)? {
        all.extend(Incarnation::parse(&text(member)?));
    }
    all.sort();
    Ok(all)
}

/// The answer of `XREAD` on one stream: its entries; none if the time ran out.
pub(super) fn read(value: Value) -> Result<Vec<Value>> {
    let Some(streams) = present(value) else {
        return Ok(Vec::new());
    };
    let Some(stream) = array(streams)?.into_iter().next() else {
        return Ok(Vec::new());
    };
    let [_, entries] = tuple(stream)?;
    array(entries)
}

/// What `stand` in the scripts' prelude answers.
pub(super) fn partition(value: Value) -> Result<PartitionState> {
    let [head, last, birth, now, life, doubt] = tuple(value)?;
    let (queue_last, birth) = (offset(last)?, offset(birth)?);
    let handled = optional_offset(head)?
        .map_or(queue_last, Offset::just_below)
        .max(birth);
    Ok(PartitionState {
        handled,
        queue_last: queue_last.max(birth),
        birth,
        now: offset(now)?,
        doubtful_upto: optional_offset(doubt)?.unwrap_or_default(),
        life: Life(text(life)?.into()),
    })
}
