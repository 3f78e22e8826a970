//! State of operators that is not keyed: section 4.

use std::collections::BTreeSet;

use crate::StateError;
use crate::checkpoint::OperatorSnapshot;
use crate::encoding::{Reader, put_bytes, put_u64};
use crate::operator::{ListReferences, encode_states, read_states};

/// Id, elements, committables and states.
const OPERATOR_BYTES_MIN: usize = 4 * 8;

pub(super) fn encode(operators: &[OperatorSnapshot], out: &mut Vec<u8>) {
    let mut references = ListReferences::default();
    put_u64(out, operators.len() as u64);
    for operator in operators {
        put_bytes(out, operator.operator.as_bytes());
        for list in [&operator.elements, &operator.committables] {
            put_u64(out, list.len() as u64);
            list.iter().for_each(|element| put_bytes(out, element));
        }
        encode_states(&operator.states, &mut references, out);
    }
}

pub(super) fn read(mut reader: Reader<'_>) -> Result<Vec<OperatorSnapshot>, StateError> {
    let mut references = ListReferences::default();
    let mut operators = reader.list(OPERATOR_BYTES_MIN)?;
    let mut names = BTreeSet::new();
    for _ in 0..operators.count {
        let operator = reader.text()?;
        if !names.insert(operator.clone()) {
            // Only one of them would be restored.
            return Err(reader.wrong(&format!(
                "operator `{}` has two states",
                operator.escape_default()
            )));
        }
        operators.items.push(OperatorSnapshot {
            operator,
            elements: reader.byte_strings()?,
            committables: reader.byte_strings()?,
            states: read_states(&mut reader, &mut references)?,
        });
    }
    reader.end()?;
    Ok(operators.items)
}
