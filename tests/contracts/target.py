"""What every hardware target promises. Subclass it and supply the fixture `target`."""

import json

import pytest
import torch
from torch import nn

from nas.targets import LatencyResult, Target, TargetError, build, target_record


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))


class TargetContract:
    """Tests for any target that runs networks of a few hundred weights in a moment."""

    @pytest.fixture
    def target(self) -> Target:
        pytest.fail("supply the fixture `target`")

    def test_gives_median_spread_repeats_and_conditions(self, target: Target) -> None:
        (result,) = target.measure([network()], torch.randn(3, 4))
        assert isinstance(result, LatencyResult)
        assert result.median_ms > 0 and result.iqr_ms >= 0 and result.repeats >= 2
        assert result.conditions["shapes"] == [[3, 4]] and result.conditions["batch"] == 3
        assert isinstance(result.conditions["settled"], bool) and 0 <= result.conditions["outliers"] < 1
        assert all(isinstance(note, str) for note in result.notes)
        assert json.loads(json.dumps(result.conditions)) == result.conditions

    def test_a_set_has_its_results_in_the_order_of_its_networks(self, target: Target) -> None:
        small, large = nn.Linear(4, 1), nn.Sequential(nn.Linear(4, 2000), nn.Linear(2000, 2000), nn.Linear(2000, 1))
        found = target.measure([small, large, small, large], torch.randn(50, 4))
        assert len(found) == 4 and len({result.repeats for result in found}) == 1
        assert max(found[0].median_ms, found[2].median_ms) < min(found[1].median_ms, found[3].median_ms)

    def test_its_description_is_json_and_stays_the_same(self, target: Target) -> None:
        description = target.describe()
        assert description and json.loads(json.dumps(description)) == description
        assert target.describe() == description
        record = target_record(target)
        assert (record.name, record.kind, record.description) == (target.name, target.kind, description)

    def test_its_record_makes_it_again(self, target: Target) -> None:
        record = target_record(target)
        assert json.loads(json.dumps(record.settings)) == record.settings
        assert target_record(build(record)) == record

    def test_leaves_the_module_as_it_was(self, target: Target) -> None:
        module = network()
        module[1].eval()
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        modes = [part.training for part in module.modules()]
        target.measure([module], torch.randn(2, 4))
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        assert [part.training for part in module.modules()] == modes
        assert all(parameter.grad is None for parameter in module.parameters())

    def test_refuses_views_of_shared_weights(self, target: Target) -> None:
        module = network()
        module[0].weight = nn.Parameter(torch.randn(16, 16)[:8, :4])
        with pytest.raises(TargetError, match=r"'0\.weight' is a view .*extract") as found:
            target.measure([network(), module], torch.randn(2, 4))
        assert found.value.network == 1, "the second of the set"

    def test_takes_several_inputs_and_tied_weights(self, target: Target) -> None:
        module = nn.Bilinear(3, 4, 2)
        module.twin = module.weight
        (result,) = target.measure([module], (torch.randn(2, 3), torch.randn(2, 4)))
        assert result.conditions["shapes"] == [[2, 3], [2, 4]]
