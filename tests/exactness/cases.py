"""All cases, by domain."""

from tests.exactness.diffusion_cases import DIFFUSION
from tests.exactness.language_cases import LANGUAGE
from tests.exactness.speech_cases import SPEECH
from tests.exactness.structure_cases import STRUCTURE
from tests.exactness.text_cases import TEXT
from tests.exactness.token_cases import TOKENS
from tests.exactness.vision_cases import VISION

CASES = DIFFUSION | SPEECH | VISION | LANGUAGE | TOKENS | TEXT | STRUCTURE
