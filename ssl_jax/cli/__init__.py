"""The command line.

command_line   flags and overrides, their mistakes told in one message
config_files   a config by its name
usage          what --help says
modes          one function for each --mode
predict        --mode=predict
"""
