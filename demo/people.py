"""The three fictional people, what they communicate, and how their sessions differ."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLES_PER_LABEL = 8  # in each session


@dataclass(frozen=True)
class SessionConditions:
    """What changes from one session to the next: camera, microphone, light, and how people talk."""

    session_id: str
    day: str
    device: str
    notes: str
    # camera on the person
    camera_distance: float  # shoulder widths
    camera_shift: tuple[float, float]  # image widths and heights
    camera_tilt: float  # degrees
    last: bool  # the person is tired, and may use the other hand
    landmarks_lost: float  # share of frames in which a hand is not detected
    # microphone
    sample_rate: int
    channels: int
    gain_db: float
    noise_db: float  # below the sound's own level
    noise_slope: float  # 0 white, 1 pink, 2 brown
    echo_seconds: float
    bandwidth_hz: float
    # light in the pictures
    exposure: float
    warmth: float  # red over blue
    blur: float  # pixels
    # words
    wording: int
    word_errors: float  # share of words that the speech recogniser gets wrong


@dataclass(frozen=True)
class Person:
    """One user: body, voice, home and vocabulary."""

    user_id: str
    # movement
    left_handed: bool
    reach: float  # 1 = full range of movement
    tempo: float  # 1 = a gesture of about two seconds
    tremor: float  # shoulder widths
    variation: float  # how much the same gesture differs between takes and between days
    changes_hand: bool  # in the last session
    gestures: tuple[str, ...]
    # voice
    pitch_hz: float
    tract: float  # vocal tract length, 1 = adult
    breathiness: float
    sounds: tuple[str, ...]
    # surroundings
    home: int
    places: tuple[str, ...]
    topics: tuple[str, ...]


PEOPLE = (
    Person(
        user_id="ana",
        left_handed=False,
        reach=1.0,
        tempo=1.0,
        tremor=0.004,
        variation=1.0,
        changes_hand=False,
        gestures=("come", "eat", "hello", "look", "stop"),
        pitch_hz=215.0,
        tract=0.88,
        breathiness=0.08,
        sounds=("attention", "happy", "no", "want", "yes"),
        home=1,
        places=("bathroom", "bedroom", "garden", "kitchen"),
        topics=("care", "health", "meal", "outing", "play"),
    ),
    Person(
        user_id="ben",
        left_handed=True,
        reach=0.75,
        tempo=0.8,
        tremor=0.008,
        variation=1.0,
        changes_hand=True,
        gestures=("come", "drink", "hello", "more", "stop"),
        pitch_hz=120.0,
        tract=1.05,
        breathiness=0.16,
        sounds=("no", "pain", "smack", "tired", "want"),
        home=2,
        places=("bedroom", "garden", "kitchen", "living_room"),
        topics=("care", "health", "meal", "outing"),
    ),
    Person(
        user_id="chika",
        left_handed=False,
        reach=0.6,
        tempo=1.25,
        tremor=0.03,
        variation=1.2,
        changes_hand=False,
        gestures=("drink", "eat", "look", "more"),
        pitch_hz=290.0,
        tract=0.78,
        breathiness=0.12,
        sounds=("happy", "no", "pain", "smack", "yes"),
        home=3,
        places=("bathroom", "garden", "kitchen", "living_room", "street"),
        topics=("care", "meal", "outing", "play"),
    ),
)

SESSIONS = (
    SessionConditions(
        session_id="sess_1",
        day="2026-03-02",
        device="tablet",
        notes="morning, daylight, quiet room",
        camera_distance=4.0,
        camera_shift=(0.0, 0.0),
        camera_tilt=0.0,
        last=False,
        landmarks_lost=0.03,
        sample_rate=16000,
        channels=1,
        gain_db=-14.0,
        noise_db=24.0,
        noise_slope=1.0,
        echo_seconds=0.08,
        bandwidth_hz=7500.0,
        exposure=1.05,
        warmth=1.0,
        blur=0.0,
        wording=0,
        word_errors=0.0,
    ),
    SessionConditions(
        session_id="sess_2",
        day="2026-03-05",
        device="laptop",
        notes="afternoon, a fan runs, stereo microphone",
        camera_distance=5.2,
        camera_shift=(0.09, 0.05),
        camera_tilt=-6.0,
        last=False,
        landmarks_lost=0.10,
        sample_rate=44100,
        channels=2,
        gain_db=-26.0,
        noise_db=12.0,
        noise_slope=0.6,
        echo_seconds=0.16,
        bandwidth_hz=14000.0,
        exposure=0.75,
        warmth=1.18,
        blur=0.8,
        wording=1,
        word_errors=0.04,
    ),
    SessionConditions(
        session_id="sess_3",
        day="2026-03-11",
        device="phone",
        notes="evening, lamp light, microphone far away",
        camera_distance=3.4,
        camera_shift=(-0.07, -0.03),
        camera_tilt=5.0,
        last=True,
        landmarks_lost=0.16,
        sample_rate=16000,
        channels=1,
        gain_db=-20.0,
        noise_db=5.0,
        noise_slope=1.6,
        echo_seconds=0.28,
        bandwidth_hz=4200.0,
        exposure=0.42,
        warmth=1.35,
        blur=1.6,
        wording=2,
        word_errors=0.10,
    ),
)
