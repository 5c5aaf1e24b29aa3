"""(algorithm, state, batches) -> numbers.

batches        metric sums and features of padded batches
probes         linear classifiers on features
protocol       how features are judged
reported       what is reported of a phase
"""
