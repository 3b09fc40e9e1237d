"""The config of a run.

tree               ``Config`` and ``load_config``: defaults, YAML file and overrides
data_config, model_config, objective_config, optim_config, train_config
                   one section each, with the meaning of every key
section            the base class of sections
override           the value of ``key=value``, parsed by the type of the key
config_file        a config as commented YAML
"""
