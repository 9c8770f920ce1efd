use ndarray::Array3;

use super::*;

fn case(classes: &[[f64; 4]]) -> CaseDice {
    let classes = (1..).zip(classes).map(|(class, dice)| {
        let [plain, largest, foreground, foreground_largest] = dice.map(|dice| dice.is_finite().then_some(dice));
        ClassDice { class, plain, largest, foreground, foreground_largest }
    });
    CaseDice { case: "a".into(), classes: classes.collect() }
}

fn rule(cases: &[CaseDice]) -> (bool, Vec<u16>) {
    let Rule { foreground, classes } = decide(cases).rule;
    (foreground, classes)
}

#[test]
fn what_is_chosen_raises_the_mean_and_lowers_no_class() {
    // All foreground: class 1 gains, class 2 stays; then class 2 alone gains of what is left, class 1 loses.
    assert_eq!(rule(&[case(&[[0.5, 0.6, 0.7, 0.6], [0.8, 0.9, 0.8, 0.85]])]), (true, vec![2]));
    // The mean rises, but class 2 falls: classes are looked at as predicted.
    assert_eq!(rule(&[case(&[[0.5, 0.6, 0.9, 0.9], [0.8, 0.8, 0.79, 0.9]])]), (false, vec![1]));
    // It is the mean over cases that counts.
    let cases = [case(&[[0.5, 0.9, 0.5, 0.5], [0.8; 4]]), case(&[[0.9, 0.4, 0.9, 0.9], [0.8; 4]])];
    assert_eq!(rule(&cases), (false, vec![]));
    // The same is not better.
    assert_eq!(rule(&[case(&[[0.5; 4], [0.6; 4]])]), (false, vec![]));
    // What is not defined is in no mean: class 2 is nowhere once its stray part is gone.
    let nan = f64::NAN;
    assert_eq!(rule(&[case(&[[0.5, 0.5, 0.6, 0.6], [0.0, 0.0, nan, nan]])]), (true, vec![]));
    // Of one class, all foreground is the class.
    assert_eq!(rule(&[case(&[[0.5, 0.6, 0.6, 0.6]])]), (true, vec![]));
    assert_eq!(rule(&[]), (false, vec![]));
    assert!(Findings::new(vec![case(&[[0.5, 0.6, 0.6, 0.6]])], true).decision.rule.is_empty());
}

/// Two classes in a row of voxels, counted by hand.
#[test]
fn a_case_is_counted_under_every_choice() {
    let row = |labels: &[u16]| Array3::from_shape_vec((1, 1, labels.len()), labels.to_vec()).unwrap();
    //                          the largest of all is the middle; 9 is ignored
    let mut prediction = row(&[1, 0, 1, 1, 2, 1, 2, 2, 0, 2, 2, 2, 0, 1]);
    let truth = row(&[0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 9, 0, 9]);
    let found = case_dice("a", &mut prediction, truth.view(), 3, Some(9), &Storage::unbounded()).unwrap();
    assert_eq!(prediction, row(&[0, 0, 1, 1, 2, 1, 2, 2, 0, 0, 0, 0, 0, 0]));
    let some = |a: u32, b: u32| Some(f64::from(a) / f64::from(b));
    // Class 1: 2 of 3 voxels found; 4 predicted, of its largest part 2, with the foreground's largest 3.
    let [one, two] = &found.classes[..] else { panic!("{found:?}") };
    let of = |dice: &ClassDice| [dice.plain, dice.largest, dice.foreground, dice.foreground_largest];
    assert_eq!(of(one), [some(4, 7), some(4, 5), some(4, 6), some(4, 5)]);
    // Class 2: its largest part is the stray one, of which two voxels count.
    assert_eq!(of(two), [some(4, 8), some(0, 5), some(4, 6), some(4, 5)]);
}

#[test]
fn a_rule_is_applied_in_its_order() {
    let row = |labels: &[u16]| Array3::from_shape_vec((1, 1, labels.len()), labels.to_vec()).unwrap();
    let map = row(&[1, 1, 1, 0, 1, 2, 1, 1, 0, 2, 2]);
    let applied = |foreground, classes: &[u16]| {
        let mut map = map.clone();
        Rule { foreground, classes: classes.to_vec() }.apply(&mut map, &Storage::unbounded()).unwrap();
        map.into_raw_vec_and_offset().0
    };
    assert_eq!(applied(false, &[]), map.as_slice().unwrap());
    assert_eq!(applied(true, &[]), [0, 0, 0, 0, 1, 2, 1, 1, 0, 0, 0]);
    assert_eq!(applied(false, &[1]), [1, 1, 1, 0, 0, 2, 0, 0, 0, 2, 2]);
    assert_eq!(applied(true, &[1, 2]), [0, 0, 0, 0, 0, 2, 1, 1, 0, 0, 0]);
    assert_eq!(applied(false, &[2]), [1, 1, 1, 0, 1, 0, 1, 1, 0, 2, 2]);
    // Equals stay.
    let mut equals = row(&[1, 0, 1, 0, 1]);
    Rule { foreground: true, classes: vec![1] }.apply(&mut equals, &Storage::unbounded()).unwrap();
    assert_eq!(equals, row(&[1, 0, 1, 0, 1]));
}

#[test]
fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    assert!(of_run(&[folder.path()]).unwrap().rule.is_empty());
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let cases = vec![case(&[[0.5, 0.6, 0.7, 0.6], [0.8, 0.9, 0.8, 0.85]])];
    std::fs::write(&path, serde_json::to_vec(&Findings::new(cases, false)).unwrap()).unwrap();
    assert_eq!(of_run(&[folder.path()]).unwrap().rule, Rule { foreground: true, classes: vec![2] });
    // Two folds decide together; one alone would have chosen otherwise.
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join("validation")).unwrap();
    let cases = vec![case(&[[0.9, 0.9, 0.6, 0.6], [0.8, 0.6, 0.8, 0.8]])];
    std::fs::write(other.path().join(FILE), serde_json::to_vec(&Findings::new(cases, false)).unwrap()).unwrap();
    assert_eq!(of_run(&[folder.path(), other.path()]).unwrap().rule, Rule { foreground: false, classes: vec![1] });
    std::fs::write(&path, b"{\"neighbours\": 26").unwrap();
    let said = of_run(&[folder.path()]).unwrap_err().to_string();
    assert!(said.contains("postprocessing.json") && said.contains("--no-postprocessing"), "{said}");
}
