"""Test classes that a new part inherits: what every family, source, executor and algorithm has to keep.

A subclass names the part in an attribute or a fixture; its tests come with the inheritance::

    class TestFull(FamilyTests):
        covariance_type = "full"
"""

from gmmdask.testing.contracts.algorithm import AlgorithmTests
from gmmdask.testing.contracts.executor import ExecutorTests
from gmmdask.testing.contracts.family import FamilyTests
from gmmdask.testing.contracts.source import SourceTests

__all__ = ["AlgorithmTests", "ExecutorTests", "FamilyTests", "SourceTests"]
