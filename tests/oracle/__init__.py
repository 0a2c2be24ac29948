"""The independent judge: generators of nasty trees and operations, comparers, and a harness that runs real agents."""
