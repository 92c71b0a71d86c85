"""One reader per record type, by field of law; `records.payloads` names them all."""
