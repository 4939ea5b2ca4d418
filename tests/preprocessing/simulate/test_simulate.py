import hashlib

import cv2
import numpy as np
import pandas as pd
import pytest

from gated_vae.preprocessing.errors import GatedVAEError
from gated_vae.preprocessing.openface.api import read_openface
from gated_vae.preprocessing.simulate import labels, openface
from gated_vae.preprocessing.simulate.faces import simulate_faces
from gated_vae.preprocessing.simulate.options import FaceSimulation
from gated_vae.preprocessing.simulate.render.draw import build, draw
from gated_vae.preprocessing.simulate.render.landmarks import AU_NAMES
from gated_vae.preprocessing.simulate.render.scene import Backdrop, Scene, rotation

MANY_FAILURES = FaceSimulation(
    n=120, seed=5, people=6, not_found=0.05, two_faces=0.1, low_confidence=0.05, impossible=0.05
)
POSE = ["pose_Rx", "pose_Ry", "pose_Rz"]
INTENSITIES = [f"{name}_r" for name in AU_NAMES]
PLAIN = Backdrop(grey=255, contrast=0, clothes=255)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "faces"
    return out, simulate_faces(MANY_FAILURES, out, workers=1)


def digests(out):
    """Digest of every file's bytes by name."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def expression(**intensities):
    values = np.zeros(len(AU_NAMES))
    for name, value in intensities.items():
        values[AU_NAMES.index(name)] = value
    return values


def at_64(scene):
    return cv2.resize(draw(scene), (64, 64), interpolation=cv2.INTER_AREA).astype(int)


def frame_landmarks(pose):
    """What the CSV says of the average face in a pose: x and y of the 68 landmarks, in pixels."""
    rng = np.random.default_rng(0)
    said = labels.Labels(np.array(pose), np.zeros(17), np.zeros(18), 0.983)
    face = build(Scene().person, np.zeros(17))
    cells = openface.row(0, said, face, openface.Spot(0.62, 88.5, 135.6), rng).split(", ")
    row = dict(zip([name for name, _ in openface.COLUMNS], map(float, cells), strict=True))
    return np.array([[row[f"{axis}_{i}"] for i in range(68)] for axis in "xy"])


# The form, against real files


def test_header_and_number_formats_are_those_of_real_files(real_data, folder):
    real = (real_data / "celeba/processed/000002.csv").read_bytes().decode()
    ours = next((folder[0] / "processed").glob("*.csv")).read_bytes().decode()
    real_lines, our_lines = real.split("\n"), ours.split("\n")
    assert our_lines[0] == real_lines[0]
    assert our_lines[-1] == real_lines[-1] == ""
    decimals = [[len(cell.partition(".")[2]) for cell in line.split(", ")] for line in (real_lines[1], our_lines[1])]
    assert decimals[0] == decimals[1]


def test_details_are_those_of_real_files(real_data, folder):
    processed = folder[0] / "processed"
    truth = pd.read_parquet(folder[0] / "truth.parquet")
    for real, found in (("000002", True), ("000167", False)):
        stem = truth.loc[(truth["outcome"] != "not found") == found, "image"].iloc[0][:6]
        expected = (real_data / f"celeba/processed/{real}_of_details.txt").read_bytes()
        assert (processed / f"{stem}_of_details.txt").read_bytes() == expected.replace(real.encode(), stem.encode())


def test_pictures_have_the_header_of_real_ones(real_data, folder):
    real = (real_data / "celeba/processed_bmp/000002_aligned/face_det_000000.bmp").read_bytes()
    ours = next((folder[0] / "processed").glob("*_aligned/face_det_000000.bmp")).read_bytes()
    assert ours[:54] == real[:54]
    assert len(ours) == len(real)
    colours = np.frombuffer(ours[54:], np.uint8).reshape(112, 112, 3)
    assert (colours == colours[..., :1]).all()


@pytest.mark.parametrize("source", ["real", "simulated"])
def test_3d_landmarks_project_onto_2d_ones(source, request, folder):
    if source == "real":
        path = request.getfixturevalue("real_data") / "celeba/processed/000002.csv"
    else:
        path = next((folder[0] / "processed").glob("*.csv"))
    row = pd.read_csv(path, sep=", ", engine="python").iloc[0]
    for axis, centre in (("x", 89), ("y", 109)):
        flat = np.array([row[f"{axis}_{i}"] for i in range(68)])
        solid, depth = (np.array([row[f"{name}_{i}"] for i in range(68)]) for name in (axis.upper(), "Z"))
        np.testing.assert_allclose(183.073 * solid / depth + centre, flat, atol=0.15)


# Accounts


def test_every_image_is_accounted_for(folder):
    out, report = folder
    truth = pd.read_parquet(out / "truth.parquet")
    assert report.found + report.not_found == report.images == len(truth) == 120
    assert min(report.not_found, report.two_faces, report.low_confidence, report.impossible) > 0
    assert list(truth["image"]) == [f"{i:06d}.jpg" for i in range(1, 121)]
    for stem, faces in zip(truth["image"].str[:6], truth["faces"], strict=True):
        csv = out / f"processed/{stem}.csv"
        assert csv.exists() == (faces > 0)
        assert faces == 0 or len(csv.read_text().splitlines()) == faces + 1
        names = sorted(path.name for path in (out / f"processed/{stem}_aligned").iterdir())
        assert names == [f"face_det_{i:06d}.bmp" for i in range(faces)]


def test_outcomes_show_in_the_rows(folder):
    out, _ = folder
    truth = pd.read_parquet(out / "truth.parquet").set_index("image")
    rows = read_openface(out / "processed")
    assert len(rows) == truth["faces"].sum()
    stems = rows["source"].str.extract(r"(\d{6})\.csv$")[0] + ".jpg"
    portraits = rows[rows["row"].to_numpy() == truth.loc[stems, "face"].to_numpy()]
    outcome = truth.loc[portraits["source"].str[-10:-4] + ".jpg", "outcome"].to_numpy()
    impossible = portraits[POSE].abs().max(axis=1) > 1.2
    assert ((portraits["confidence"] < 0.8).to_numpy() == (outcome == "low confidence")).all()
    assert impossible[outcome == "impossible pose"].all()
    assert not impossible[outcome == "found"].any()


def test_lists_have_celebas_form_and_split_by_person(folder):
    out, _ = folder
    truth = pd.read_parquet(out / "truth.parquet")
    for name, column in (("identity.txt", "person"), ("partition.txt", "partition")):
        lines = (out / name).read_text().splitlines()
        assert lines == [f"{image} {value}" for image, value in zip(truth["image"], truth[column], strict=True)]
    assert (truth.groupby("person")["partition"].nunique() == 1).all()


# Determinism


def test_same_bytes_whatever_the_number_of_workers(folder, tmp_path):
    simulate_faces(MANY_FAILURES, tmp_path / "faces", workers=2)
    assert digests(tmp_path / "faces") == digests(folder[0])


def test_an_image_depends_on_the_seed_and_its_number_only(folder, tmp_path):
    few = FaceSimulation(**{**vars(MANY_FAILURES), "n": 4})
    simulate_faces(few, tmp_path, workers=1)
    ours = {name: value for name, value in digests(tmp_path).items() if name.startswith("processed")}
    assert len(ours) >= 8
    assert ours.items() <= digests(folder[0]).items()


def test_label_options_leave_pictures_and_truth_alone(folder, tmp_path):
    options = {**vars(MANY_FAILURES), "n": 4, "pose_noise": 3.0, "label_noise": 0.0, "confounding": 1.0}
    simulate_faces(FaceSimulation(**options), tmp_path, workers=1)
    ours = {name: value for name, value in digests(tmp_path).items() if name.endswith(".bmp")}
    assert len(ours) >= 3
    assert ours.items() <= digests(folder[0]).items()
    truth, before = (pd.read_parquet(out / "truth.parquet") for out in (tmp_path, folder[0]))
    pd.testing.assert_frame_equal(truth, before.head(4))


def test_an_interrupted_run_goes_on_where_it_stopped(folder, tmp_path):
    class Killed(BaseException):
        pass

    def kill(done, _total, _note):
        if done >= 100:
            raise Killed

    with pytest.raises(Killed):
        simulate_faces(MANY_FAILURES, tmp_path, workers=1, progress=kill)
    assert not (tmp_path / "truth.parquet").exists()
    first = tmp_path / "processed/000001_of_details.txt"
    before, seen = first.stat().st_mtime_ns, []
    assert not simulate_faces(
        MANY_FAILURES, tmp_path, workers=1, progress=lambda done, *_: seen.append(done)
    ).already_done
    assert first.stat().st_mtime_ns == before
    assert seen == [100, 120]
    assert digests(tmp_path) == digests(folder[0])


def test_a_finished_folder_is_left_alone(folder):
    out, report = folder
    before = (out / "truth.parquet").stat().st_mtime_ns
    again = simulate_faces(MANY_FAILURES, out, workers=1)
    assert again.already_done
    assert vars(again) == {**vars(report), "already_done": True}
    assert (out / "truth.parquet").stat().st_mtime_ns == before


def test_other_options_are_refused_unless_overwritten(tmp_path):
    simulate_faces(FaceSimulation(n=3), tmp_path, workers=1)
    before = digests(tmp_path)
    with pytest.raises(GatedVAEError, match="other options"):
        simulate_faces(FaceSimulation(n=2), tmp_path, workers=1)
    assert digests(tmp_path) == before
    assert simulate_faces(FaceSimulation(n=2), tmp_path, workers=1, overwrite=True).images == 2
    assert not (tmp_path / "processed/000003_of_details.txt").exists()


def test_a_folder_of_another_origin_is_never_touched(tmp_path):
    (tmp_path / "processed").mkdir()
    (tmp_path / "processed/000001.csv").write_text("real")
    with pytest.raises(GatedVAEError, match="It holds files, but no simulation"):
        simulate_faces(FaceSimulation(n=1), tmp_path, workers=1, overwrite=True)
    assert (tmp_path / "processed/000001.csv").read_text() == "real"


@pytest.mark.parametrize(
    "options",
    [{"n": 0}, {"n": 1, "people": 0}, {"n": 1, "not_found": 0.7, "impossible": 0.7}, {"n": 1, "pose_noise": -1}],
)
def test_senseless_options_are_refused(options):
    with pytest.raises(GatedVAEError):
        FaceSimulation(**options)


# Labels


def draws(count, **scales):
    """Truth and labels of many faces: pose (n, 3) and intensities (n, 17) of each."""
    options = FaceSimulation(count, **scales)
    truth = [labels.draw_truth(np.random.default_rng([1, i])) for i in range(count)]
    said = [labels.label(t, np.random.default_rng([2, i]), options) for i, t in enumerate(truth)]
    return [
        np.array([getattr(item, name) for item in items]) for items in (truth, said) for name in ("pose", "intensities")
    ]


def test_labels_spread_as_openfaces_do():
    _, _, pose, intensities = draws(4000)
    np.testing.assert_allclose(pose.std(axis=0), [0.16, 0.25, 0.047], rtol=0.1)
    np.testing.assert_allclose((intensities == 0).mean(axis=0), labels.ZERO, atol=0.03)
    np.testing.assert_allclose(np.quantile(intensities, 0.99, axis=0), labels.TOP, rtol=0.15)


def test_label_spread_and_correlation_match_the_real_rows(real_data):
    rows = read_openface(real_data / "celeba/processed")
    rows = rows[(rows["confidence"] > 0.8) & (rows[POSE].abs().max(axis=1) < 1.2) & (rows["face"] == 0)]
    _, _, pose, intensities = draws(4000)
    ours, real = pd.DataFrame(intensities, columns=INTENSITIES), rows[INTENSITIES]
    np.testing.assert_allclose(pose.std(axis=0), rows[POSE].std(), rtol=0.12)
    np.testing.assert_allclose(ours.mean(), real.mean(), atol=0.12)
    np.testing.assert_allclose((ours == 0).mean(), (real == 0).mean(), atol=0.04)
    difference = (ours.corr("spearman") - real.corr("spearman")).abs().to_numpy()
    assert difference.mean() < 0.08
    assert difference.max() < 0.25


def test_noise_has_the_stated_size_and_can_be_turned_off():
    pose, intensities, said_pose, said = draws(2000)
    np.testing.assert_allclose((said_pose - pose).std(axis=0), labels.POSE_NOISE, rtol=0.1)
    fires = (intensities > 1) & (said > 0)  # away from the cut at 0 the error is all of the noise
    error = np.where(fires, said - intensities, np.nan)
    np.testing.assert_allclose(np.nanstd(error, axis=0), labels.AU_NOISE, rtol=0.35)
    pose, intensities, said_pose, said = draws(50, pose_noise=0.0, label_noise=0.0)
    assert (pose == said_pose).all()
    assert (intensities == said).all()


def test_labels_depend_on_the_pose_only_if_confounded():
    pose, truth, _, free = draws(4000)
    _, _, _, bound = draws(4000, confounding=1.0)
    smile, pitch = AU_NAMES.index("AU14"), pose[:, 0]
    assert abs(np.corrcoef(free[:, smile], pitch)[0, 1]) < 0.04
    assert np.corrcoef(bound[:, smile], pitch)[0, 1] > 0.1
    correlations = np.corrcoef(np.hstack([pose, truth]).T)[:3, 3:]
    assert np.abs(correlations).max() < 0.06


# What pictures show


def test_rotation_is_openfaces():
    """Against OpenFace's closed form of the same Euler angles."""
    x, y, z = 0.3, -0.5, 0.2
    (s1, s2, s3), (c1, c2, c3) = np.sin([x, y, z]), np.cos([x, y, z])
    expected = [
        [c2 * c3, -c2 * s3, s2],
        [c1 * s3 + c3 * s1 * s2, c1 * c3 - s1 * s2 * s3, -c2 * s1],
        [s1 * s3 - c1 * c3 * s2, c3 * s1 + c1 * s2 * s3, c1 * c2],
    ]
    np.testing.assert_allclose(rotation((x, y, z)), expected, atol=1e-12)


@pytest.mark.parametrize("yaw", [-0.5, 0.5])
def test_yaw_turns_as_in_real_rows(yaw, real_data):
    rows = read_openface(real_data / "celeba/processed")
    turned = rows[(rows["confidence"] > 0.9) & ((rows["pose_Ry"] - yaw).abs() < 0.1) & (rows["pose_Rx"].abs() < 0.2)]
    real = (turned["x_30"] - (turned["x_0"] + turned["x_16"]) / 2).median()
    x, _ = frame_landmarks([0, yaw, 0])
    assert x[30] - (x[0] + x[16]) / 2 == pytest.approx(real, rel=0.3)


def test_positive_yaw_uncovers_the_background_at_the_pictures_left():
    picture = draw(Scene(pose=(0.0, 0.7, 0.0), backdrop=PLAIN))
    assert picture[50:60, :12].mean() > 245
    assert picture[50:60, -12:].mean() < 230
    mirrored = draw(Scene(pose=(0.0, -0.7, 0.0), backdrop=PLAIN))[:, ::-1]
    assert np.abs(picture.astype(int) - mirrored).mean() < 6


def test_positive_pitch_looks_down():
    def nose_below_eyes(pitch):
        _, y = frame_landmarks([pitch, 0, 0])
        return (y[30] - y[36:48].mean()) / (y[8] - y[36:48].mean())

    assert nose_below_eyes(-0.3) < nose_below_eyes(0) - 0.05
    assert nose_below_eyes(0.3) > nose_below_eyes(0) + 0.05


@pytest.mark.parametrize("name", AU_NAMES)
def test_every_action_unit_shows_at_64_pixels(name):
    still, moved = at_64(Scene()), at_64(Scene(intensities=expression(**{name: 2.0})))
    noise = np.abs(at_64(Scene(backdrop=Backdrop(seed=1))) - still)[20:50, 20:44].mean()
    change = np.abs(moved - still)
    assert (change > 12).sum() >= 12
    assert np.sort(change.ravel())[-40:].mean() > 6 * noise


def dark_rows(scene, columns):
    """Mean row, weighted by darkness, of the mouth's part of those columns of the 112 pixel picture."""
    part = 255.0 - draw(scene)[68:92, columns]
    part = np.clip(part - np.median(part), 0, None)
    return (part.sum(axis=1) * np.arange(24)).sum() / part.sum()


def test_a_smile_lifts_the_corners_of_the_mouth():
    corners = slice(34, 42)
    still, smiling = (dark_rows(Scene(intensities=expression(AU12=i)), corners) for i in (0, 4))
    sad = dark_rows(Scene(intensities=expression(AU15=4)), corners)
    assert smiling < still - 2
    assert sad > still + 2


def test_action_units_move_their_landmarks():
    still = build(Scene().person, expression()).landmarks

    def moved(name):
        return build(Scene().person, expression(**{name: 4})).landmarks - still

    assert (moved("AU12")[[48, 54], 1] < -5).all()
    assert (moved("AU15")[[48, 54], 1] > 5).all()
    assert (moved("AU01")[[21, 22], 1] < -5).all()
    assert (moved("AU02")[[18, 25], 1] < -5).all()
    assert (moved("AU04")[[21, 22], 1] > 3).all()
    assert moved("AU26")[8, 1] > 8
    lids = build(Scene().person, expression(AU45=5)).landmarks
    assert np.abs(lids[[37, 38], 1] - lids[[41, 40], 1]).max() < 1
    np.testing.assert_allclose(moved("AU12")[17:27], 0, atol=1e-3)
