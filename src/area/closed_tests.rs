use super::*;

const HEADER: &str = "lkp_lat,lkp_lon,find_lat,find_lon,hours,category,environment";

#[test]
fn cases_are_read_by_the_names_of_their_columns() {
    let text = format!("{HEADER}\n57.1,-2.1,57.2,-2.0,3.5,dementia,urban\n");
    let cases = closed_cases(&text).unwrap();
    assert_eq!(cases.len(), 1);
    assert_eq!(cases[0].found, Position::new(57.2, -2.0).unwrap());
    assert_eq!(cases[0].inputs.elapsed, Duration::from_mins(210));
    assert_eq!(cases[0].inputs.profile.mobility, Mobility::Normal);

    let text = "accuracy_m,age,mobility,hours,category,environment,find_lat,find_lon,lkp_lat,lkp_lon\n\
                50,81,reduced,1,dementia,urban,57.2,-2.0,57.1,-2.1\n,,,1,hiker,dry,57.2,-2.0,57.1,-2.1\n";
    let cases = closed_cases(text).unwrap();
    assert_eq!(
        (
            cases[0].inputs.profile.age,
            cases[0].inputs.profile.mobility
        ),
        (Some(81), Mobility::Reduced)
    );
    assert_eq!(cases[0].inputs.accuracy_m.to_bits(), 50.0_f64.to_bits());
    assert_eq!(cases[1].inputs.profile.age, None);
}

#[test]
fn every_wrong_row_is_named_with_what_would_be_accepted() {
    let rows = [
        "57.1,-2.1,57.2,-2.0,3.5,dementia,urban",
        "97.1,-2.1,57.2,-2.0,3.5,dementia,urban",
        "57.1,-2.1,57.2,-2.0,soon,dementia,urban",
        "57.1,-2.1,57.2,-2.0,-1,dementia,urban",
        "57.1,-2.1,57.2,-2.0,1,wizard,urban",
        "57.1,-2.1,57.2,-2.0,1,dementia,moon",
        "57.1,-2.1,57.2,-2.0,1,dementia",
    ];
    let wrong = closed_cases(&format!("{HEADER}\n{}\n", rows.join("\n"))).unwrap_err();
    let told: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    for (told, expected) in told.iter().zip([
        "line 3: lkp_lat,lkp_lon: latitude must be a number from -90 to 90, not 97.1",
        "line 4: hours must be a number, not 'soon'",
        "line 5: hours must be the time until the find, 0 or more, not '-1'",
        "line 6: unknown category 'wizard', accepted are: dementia",
        "line 7: unknown environment 'moon', accepted are: urban",
        "line 8: has 6 fields instead of 7",
    ]) {
        assert!(told.starts_with(expected), "{told}");
    }
    assert_eq!(told.len(), 6);
    for header in [
        "",
        "lkp_lat,lkp_lon",
        &format!("{HEADER},colour"),
        &format!("{HEADER},age,age"),
    ] {
        let wrong = closed_cases(header).unwrap_err();
        assert!(
            wrong[0]
                .to_string()
                .starts_with("line 1: the columns must be lkp_lat"),
            "{header}"
        );
    }
}

#[test]
fn a_kept_distance_stands_for_the_places() {
    let profile = Profile {
        category: Category::Dementia,
        age: None,
        mobility: Mobility::Normal,
        environment: Environment::Urban,
    };
    let after = Duration::from_hours(3);
    let mut north = 0;
    for n in 0..100 {
        let case = ClosedCase::at_distance(profile, 2.5, after, n).unwrap();
        let km = crate::area::great_circle_km(case.inputs.lkp, case.found);
        assert!((km - 2.5).abs() < 1e-9, "{km}");
        assert_eq!((case.inputs.profile, case.inputs.elapsed), (profile, after));
        north += i32::from(case.found.lat() > case.inputs.lkp.lat());
    }
    assert!((48..=52).contains(&north), "{north}");
}
