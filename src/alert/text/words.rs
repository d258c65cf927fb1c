//! The sentences of every language.
//!
//! They avoid what would have to agree with the person's sex or the first letter of the name.

use jiff::Zoned;

use crate::model::Language;

/// The sentences of one language. Pairs are: with the name in place of `{who}`, and without.
pub(super) struct Words {
    pub exercise_prefix: &'static str,
    pub exercise_note: &'static str,
    pub exercise_over: &'static str,
    pub issue_title: (&'static str, &'static str),
    pub update_title: (&'static str, &'static str),
    pub recall_title: (&'static str, &'static str),
    pub issue: (&'static str, &'static str),
    pub update: (&'static str, &'static str),
    pub recall: (&'static str, &'static str),
    pub recall_thanks: &'static str,
    pub test_title: &'static str,
    pub test_body: &'static str,
    pub what_to_do: &'static str,
    /// Female, male; with the label.
    pub sex: (&'static str, &'static str),
    // Labels, with all that stands between them and what follows.
    pub age: &'static str,
    pub last_seen: &'static str,
    pub description: &'static str,
    pub clothing: &'static str,
    pub circumstances: &'static str,
    /// Between the parts of an enumeration.
    pub comma: &'static str,
    /// An age after its label.
    pub years: fn(u8) -> String,
    /// An age right after a name.
    pub age_apposition: fn(u8) -> String,
    /// Day and time of day.
    pub moment: fn(&Zoned) -> String,
}

/// The sentences of a language.
pub(super) const fn of(language: Language) -> &'static Words {
    match language {
        Language::English => &ENGLISH,
        Language::German => &GERMAN,
        Language::French => &FRENCH,
        Language::Spanish => &SPANISH,
        Language::Japanese => &JAPANESE,
    }
}

const ENGLISH: Words = Words {
    exercise_prefix: "EXERCISE: ",
    exercise_note: "This is an exercise: nobody is really missing. Please do not call anyone.",
    exercise_over: "The exercise is over. Nobody was missing. Thank you for taking part.",
    issue_title: ("Missing near you: {who}", "Missing person near you"),
    update_title: (
        "Update, still missing: {who}",
        "Update on the missing person near you",
    ),
    recall_title: ("Search over: {who}", "The search near you is over"),
    issue: ("{who} is missing.", "A person is missing near you."),
    update: (
        "There is new information. {who} is still missing.",
        "There is new information. A person is still missing near you.",
    ),
    recall: (
        "The search for {who} is over.",
        "The search for the person missing near you is over.",
    ),
    recall_thanks: "Thank you for looking out. Please do not share the alert any more.",
    test_title: "Test of missing-person alerts",
    test_body: "This is only a test. Nobody is missing, and there is nothing you need to do.",
    what_to_do: "If you think you have seen this person, please report it in this app or call the \
                 police.",
    sex: ("Sex: female", "Sex: male"),
    age: "Age: ",
    last_seen: "Last seen: ",
    description: "Description: ",
    clothing: "Clothing: ",
    circumstances: "What happened: ",
    comma: ", ",
    years: |age| {
        if age == 0 {
            "under 1".to_owned()
        } else {
            age.to_string()
        }
    },
    age_apposition: |age| match age {
        0 => ", aged under 1".to_owned(),
        age => format!(", aged {age}"),
    },
    moment: |at| format!("{} {}, {}", at.day(), month(at, &ENGLISH_MONTHS), clock(at)),
};

const GERMAN: Words = Words {
    exercise_prefix: "ÜBUNG: ",
    exercise_note: "Dies ist eine Übung: In Wirklichkeit wird niemand vermisst. Bitte rufen Sie \
                    niemanden an.",
    exercise_over: "Die Übung ist beendet. Niemand wurde vermisst. Danke, dass Sie mitgemacht \
                    haben.",
    issue_title: (
        "Vermisst in Ihrer Nähe: {who}",
        "Vermisste Person in Ihrer Nähe",
    ),
    update_title: (
        "Neues, weiterhin vermisst: {who}",
        "Neues zur vermissten Person in Ihrer Nähe",
    ),
    recall_title: (
        "Suche beendet: {who}",
        "Die Suche in Ihrer Nähe ist beendet",
    ),
    issue: (
        "{who} wird vermisst.",
        "In Ihrer Nähe wird eine Person vermisst.",
    ),
    update: (
        "Es gibt neue Informationen. {who} wird weiterhin vermisst.",
        "Es gibt neue Informationen. In Ihrer Nähe wird weiterhin eine Person vermisst.",
    ),
    recall: (
        "Die Suche nach {who} ist beendet.",
        "Die Suche nach der vermissten Person in Ihrer Nähe ist beendet.",
    ),
    recall_thanks: "Danke, dass Sie die Augen offen gehalten haben. Bitte verbreiten Sie die \
                    Meldung nicht weiter.",
    test_title: "Test der Vermisstenmeldungen",
    test_body: "Dies ist nur ein Test. Niemand wird vermisst, und Sie müssen nichts tun.",
    what_to_do: "Wenn Sie glauben, diese Person gesehen zu haben, melden Sie es bitte in dieser \
                 App oder rufen Sie die Polizei an.",
    sex: ("Geschlecht: weiblich", "Geschlecht: männlich"),
    age: "Alter: ",
    last_seen: "Zuletzt gesehen: ",
    description: "Beschreibung: ",
    clothing: "Kleidung: ",
    circumstances: "Was geschehen ist: ",
    comma: ", ",
    years: german_years,
    age_apposition: |age| format!(", {}", german_years(age)),
    moment: |at| {
        format!(
            "{}. {}, {} Uhr",
            at.day(),
            month(at, &GERMAN_MONTHS),
            clock(at)
        )
    },
};

const FRENCH: Words = Words {
    exercise_prefix: "EXERCICE\u{a0}: ",
    exercise_note: "Ceci est un exercice\u{a0}: en réalité, personne n'a disparu. Merci de \
                    n'appeler personne.",
    exercise_over: "L'exercice est terminé. Personne n'avait disparu. Merci de votre \
                    participation.",
    issue_title: (
        "Disparition près de vous\u{a0}: {who}",
        "Une personne a disparu près de vous",
    ),
    update_title: (
        "Du nouveau, recherches en cours\u{a0}: {who}",
        "Du nouveau sur la disparition près de vous",
    ),
    recall_title: (
        "Recherches terminées\u{a0}: {who}",
        "Les recherches près de vous sont terminées",
    ),
    issue: (
        "Nous recherchons {who}. Cette personne a disparu.",
        "Une personne a disparu près de vous.",
    ),
    update: (
        "Il y a de nouvelles informations. Nous recherchons toujours {who}.",
        "Il y a de nouvelles informations. Nous recherchons toujours une personne disparue près \
         de vous.",
    ),
    recall: (
        "Les recherches concernant {who} sont terminées.",
        "Les recherches concernant la personne disparue près de vous sont terminées.",
    ),
    recall_thanks: "Merci de votre vigilance. Merci de ne plus partager cette alerte.",
    test_title: "Test des alertes de disparition",
    test_body: "Ceci n'est qu'un test. Personne n'a disparu et vous n'avez rien à faire.",
    what_to_do: "Si vous pensez avoir vu cette personne, signalez-le dans cette application ou \
                 appelez la police.",
    sex: ("Sexe\u{a0}: féminin", "Sexe\u{a0}: masculin"),
    age: "Âge\u{a0}: ",
    last_seen: "Vue pour la dernière fois\u{a0}: ",
    description: "Description\u{a0}: ",
    clothing: "Vêtements\u{a0}: ",
    circumstances: "Circonstances\u{a0}: ",
    comma: ", ",
    years: french_years,
    age_apposition: |age| format!(", {}", french_years(age)),
    moment: |at| {
        let day = if at.day() == 1 {
            "1er".to_owned()
        } else {
            at.day().to_string()
        };
        let (hour, minute) = (at.hour(), at.minute());
        format!(
            "le {day} {} à {hour}\u{a0}h\u{a0}{minute:02}",
            month(at, &FRENCH_MONTHS)
        )
    },
};

const SPANISH: Words = Words {
    exercise_prefix: "SIMULACRO: ",
    exercise_note: "Esto es un simulacro: en realidad no ha desaparecido nadie. Por favor, no \
                    llame a nadie.",
    exercise_over: "El simulacro ha terminado. No había desaparecido nadie. Gracias por \
                    participar.",
    issue_title: (
        "Desaparición cerca de usted: {who}",
        "Persona desaparecida cerca de usted",
    ),
    update_title: (
        "Novedades, seguimos buscando: {who}",
        "Novedades sobre la desaparición cerca de usted",
    ),
    recall_title: (
        "Búsqueda terminada: {who}",
        "La búsqueda cerca de usted ha terminado",
    ),
    issue: (
        "{who} ha desaparecido.",
        "Una persona ha desaparecido cerca de usted.",
    ),
    update: (
        "Hay nueva información. Seguimos buscando a {who}.",
        "Hay nueva información. Seguimos buscando a una persona desaparecida cerca de usted.",
    ),
    recall: (
        "La búsqueda de {who} ha terminado.",
        "La búsqueda de la persona desaparecida cerca de usted ha terminado.",
    ),
    recall_thanks: "Gracias por su atención. Por favor, no comparta más esta alerta.",
    test_title: "Prueba de las alertas de desaparición",
    test_body: "Esto es solo una prueba. No ha desaparecido nadie y usted no tiene que hacer nada.",
    what_to_do: "Si cree haber visto a esta persona, comuníquelo en esta aplicación o llame a la \
                 policía.",
    sex: ("Sexo: femenino", "Sexo: masculino"),
    age: "Edad: ",
    last_seen: "Última vez que se le vio: ",
    description: "Descripción: ",
    clothing: "Ropa: ",
    circumstances: "Qué ha pasado: ",
    comma: ", ",
    years: spanish_years,
    age_apposition: |age| format!(", {}", spanish_years(age)),
    moment: |at| {
        format!(
            "{} de {}, {} h",
            at.day(),
            month(at, &SPANISH_MONTHS),
            clock(at)
        )
    },
};

const JAPANESE: Words = Words {
    exercise_prefix: "【訓練】",
    exercise_note: "これは訓練です。実際に行方不明になっている人はいません。電話はしないでください。",
    exercise_over: "訓練は終了しました。行方不明になった人はいません。ご協力ありがとうございました。",
    issue_title: ("お近くで行方不明：{who}", "お近くで行方不明の方がいます"),
    update_title: (
        "続報・現在も行方不明：{who}",
        "お近くの行方不明の方についての続報",
    ),
    recall_title: ("捜索終了：{who}", "お近くでの捜索は終了しました"),
    issue: (
        "{who}さんが行方不明です。",
        "お近くで行方不明になっている方がいます。",
    ),
    update: (
        "新しい情報があります。{who}さんは現在も行方不明です。",
        "新しい情報があります。お近くで行方不明になった方は現在も見つかっていません。",
    ),
    recall: (
        "{who}さんの捜索は終了しました。",
        "お近くで行方不明になった方の捜索は終了しました。",
    ),
    recall_thanks: "ご協力ありがとうございました。今後、この情報は共有しないでください。",
    test_title: "行方不明者通知のテスト",
    test_body: "これはテストです。行方不明になっている人はいません。何もする必要はありません。",
    what_to_do: "この方を見かけたと思われる場合は、このアプリで知らせるか、警察に電話してください。",
    sex: ("性別：女性", "性別：男性"),
    age: "年齢：",
    last_seen: "最後に確認された日時・場所：",
    description: "特徴：",
    clothing: "服装：",
    circumstances: "状況：",
    comma: "、",
    years: |age| format!("{age}歳"),
    age_apposition: |age| format!("さん（{age}歳）"),
    moment: |at| format!("{}月{}日 {}", at.month(), at.day(), clock(at)),
};

const ENGLISH_MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const GERMAN_MONTHS: [&str; 12] = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
];

const FRENCH_MONTHS: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];

const SPANISH_MONTHS: [&str; 12] = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
];

fn month(at: &Zoned, names: &[&'static str; 12]) -> &'static str {
    let index = usize::try_from(at.month())
        .unwrap_or_default()
        .saturating_sub(1);
    names.get(index).copied().unwrap_or_default()
}

fn clock(at: &Zoned) -> String {
    format!("{:02}:{:02}", at.hour(), at.minute())
}

fn german_years(age: u8) -> String {
    match age {
        0 => "unter 1 Jahr".to_owned(),
        1 => "1 Jahr".to_owned(),
        age => format!("{age} Jahre"),
    }
}

fn french_years(age: u8) -> String {
    match age {
        0 => "moins d'un an".to_owned(),
        1 => "1 an".to_owned(),
        age => format!("{age} ans"),
    }
}

fn spanish_years(age: u8) -> String {
    match age {
        0 => "menos de 1 año".to_owned(),
        1 => "1 año".to_owned(),
        age => format!("{age} años"),
    }
}
