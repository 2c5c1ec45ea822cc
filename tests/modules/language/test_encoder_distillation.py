import torch

from kdlight.discrete.autoregressive import Sharper, left_to_right
from kdlight.discrete.draws import RowDraws
from tests.exactness.structure_cases import encoder_distillation, questions


def test_every_batch_is_learnt_from_its_answers_and_from_the_teacher_on_the_students_own():
    method = encoder_distillation()
    learnt = []
    method.learn = lambda *parts: learnt.append(parts)
    batch = questions().parts[0]
    batch = {name: tensor[:6] for name, tensor in batch.items()}
    method.noise.start(0, torch.device("cpu"), 0, 1)
    method.step(batch)
    ((tokens, taught, gold),) = learnt
    assert torch.equal(tokens[6:], batch["tokens"])
    assert torch.equal(gold[6:], batch["mask"])
    assert not taught[6:].any()
    assert not gold[:6].any()
    # Sources stay; answers are the student's, counted up to their end.
    assert torch.equal(tokens[:6][~batch["mask"]], batch["tokens"][~batch["mask"]])
    assert not torch.equal(tokens[:6], batch["tokens"])
    assert not (taught[:6] & ~batch["mask"]).any()


def test_a_sharper_writer_has_the_likeliest_tokens_at_its_temperature():
    method = encoder_distillation()
    tokens = questions().parts[0]["tokens"][:4]
    logits = method.student(tokens)
    assert torch.equal(Sharper(method.student, 2.0, 0)(tokens), logits / 2)
    few = Sharper(method.student, 0.5, 2)
    kept = few(tokens).isfinite()
    scored = slice(tokens.shape[1] // 2, None)
    assert (kept.sum(dim=2)[:, scored] == 2).all()
    assert torch.equal(few(tokens)[kept], (logits / 0.5)[kept])
    greedy = Sharper(method.student, 1.0, 1)
    start = tokens.clone()
    start[:, scored] = method.student.vocabulary
    written = left_to_right(greedy, start, RowDraws(torch.arange(4), 0)).tokens
    again = left_to_right(greedy, start, RowDraws(torch.arange(4), 1)).tokens
    assert torch.equal(written, again)
