# `make quickstart`, its three sisters and `make test` do all of their own set-up, once.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: quickstart quickstart-color quickstart-speech quickstart-tts test slow long gpu lint docs bench bench-gpu assets

quickstart: .venv/installed
	$(BIN)/python -m kdlight fit --config configs/quickstart.yaml

quickstart-color: .venv/installed
	$(BIN)/python -m kdlight fit --config configs/nouns/progressive_distillation.yaml

quickstart-speech: .venv/installed-speech
	$(BIN)/python -m kdlight fit --config configs/speech/quickstart_guided.yaml

# A teacher that speaks in four steps, its students in two and in one, and a sentence of each.
quickstart-tts: .venv/installed
	$(BIN)/python -m kdlight fit --config configs/formant/prodiff_teacher.yaml
	$(BIN)/python -m kdlight fit --config configs/formant/prodiff.yaml
	for steps in 4 2 1; do \
	  name=$$(test $$steps = 4 && echo formant_prodiff_teacher || echo formant_prodiff); \
	  $(BIN)/python -m kdlight sample --checkpoint runs/$$name/version_0/checkpoints/last.ckpt \
	    --text "hh-ah-l-ow, w-er-l-d" --speaker 3 --steps $$steps --output hello_$$steps.wav || exit; \
	done

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations 15

# Half an hour on two cores: real trainings, kills, sharding, every configuration.
slow: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist load --durations 15 -m slow

# Hours: recipes to their ends, held to the figures that the docs give.
long: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist load --durations 15 -m long

# Needs a CUDA device: the tests marked gpu, and 50 steps of every recipe.
gpu: .venv/installed-dev
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m tests.gpu

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site into site/; a dead link or an unlisted page fails it.
docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: .venv/installed-dev
	$(BIN)/python -m tests.benchmarks

bench-gpu: .venv/installed-dev
	$(BIN)/python -m tests.gpu.bench

# Train the bundled classifiers and teachers again and put them into kdlight/assets.
assets: .venv/installed
	$(BIN)/python -m kdlight fit --config configs/digits/classifier.yaml
	$(BIN)/python -m kdlight export --run runs/digits_classifier --output kdlight/assets/digits_classifier.safetensors \
	  --summary "Judge of the 8x8 digits and their feature space; held-out accuracy 100 %."
	$(BIN)/python -m kdlight fit --config configs/digits/teacher.yaml
	$(BIN)/python -m kdlight export --run runs/digits_teacher --output kdlight/assets/digits_teacher.safetensors \
	  --summary "EDM teacher of scikit-learn's 8x8 digits, 1,437 training images."
	$(BIN)/python -m kdlight fit --config configs/nouns/classifier.yaml
	$(BIN)/python -m kdlight export --run runs/nouns_classifier --half --output kdlight/assets/nouns_classifier.safetensors \
	  --summary "Judge of composed pixel art by the kind of head, and its feature space; held-out accuracy 100 %."
	$(BIN)/python -m kdlight fit --config configs/nouns/teacher.yaml
	$(BIN)/python -m kdlight export --run runs/nouns_teacher --half --output kdlight/assets/nouns_teacher.safetensors \
	  --summary "Teacher of composed pixel art, 32x32 in colour, 8 classes; predicts x0."

.venv/installed: pyproject.toml constraints.txt
	@echo "Installing the packages of constraints.txt into .venv (once; some minutes)."
	@start=$$(date +%s) && $(PYTHON) -m venv .venv && $(INSTALL) --editable . \
	&& touch $@ && echo "Installed in $$(( $$(date +%s) - start )) s."

.venv/installed-dev: .venv/installed
	@start=$$(date +%s) && $(INSTALL) --editable '.[dev]' \
	&& touch $@ && echo "Installed the test tools in $$(( $$(date +%s) - start )) s."

.venv/installed-speech: .venv/installed
	@start=$$(date +%s) && $(INSTALL) --editable '.[speech-demo]' \
	&& touch $@ && echo "Installed a voice, a teacher and judges in $$(( $$(date +%s) - start )) s."

.venv/installed-docs: .venv/installed
	@start=$$(date +%s) && $(INSTALL) --editable '.[docs]' \
	&& touch $@ && echo "Installed the tools of the site in $$(( $$(date +%s) - start )) s."
