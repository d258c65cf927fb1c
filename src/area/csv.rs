//! Just enough CSV (RFC 4180) for a table of figures: quoted fields, doubled quotes, CRLF.

/// One line of a table, unquoted.
#[derive(Debug, Default, PartialEq)]
pub struct Record {
    /// Counted from 1.
    pub line: usize,
    /// The fields from left to right.
    pub fields: Vec<String>,
}

/// The lines of a table that are not blank. A field does not run over the end of its line.
pub fn records(text: &str) -> impl Iterator<Item = Record> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(before, line)| Record {
            line: before + 1,
            fields: fields(line),
        })
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_line_ends() {
        let text = "\u{feff}a,b\r\n\n\"one, \"\"two\"\"\",,3\n";
        let read: Vec<Record> = records(text).collect();
        assert_eq!(read[0].fields, ["a", "b"]);
        assert_eq!(
            read[1],
            Record {
                line: 3,
                fields: ["one, \"two\"", "", "3"].map(str::to_owned).to_vec()
            }
        );
    }
}
